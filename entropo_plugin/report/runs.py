"""Reads the runs that a user names: a log file, a folder of attempts, a folder of runs."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from entropo_plugin.report.attempts import NAMELESS, Steps, grouped, join, last_steps, ordered, run_name
from entropo_plugin.report.configuration import Setup, read_setup
from entropo_plugin.report.csv_export import read_csvs
from entropo_plugin.report.description import Description, read_descriptions
from entropo_plugin.report.files import ReportError
from entropo_plugin.report.jsonl import NoLog, read_jsonl
from entropo_plugin.report.log import Log
from entropo_plugin.report.search import STATE, folders, home, is_events, natural
from entropo_plugin.report.series import Series
from entropo_plugin.report.tensorboard import read_events
from entropo_plugin.report.tokens import CostlyToken, read_tokens
from entropo_plugin.report.trainer_state import read_trainer_state
from entropo_plugin.report.wandb_file import read_wandb
from entropo_plugin.side_file import RUN, TOKENS, beside, stem

MOST_NAMED = 3


@dataclass
class Run:
    """One run.

    Attributes:
        name: what the report calls it.
        metrics: its series of finite values by verl's names.
        broken: the steps at which a metric is not finite, by its name.
        tokens: the tokens that cost it most entropy, costliest first.
        notes: what a reader should know about its log.
        about: what the run says about itself.
        folder: the folder above what it is called after, which tells runs of one name apart.
        setup: how it was started.
    """

    name: str
    metrics: dict[str, Series]
    broken: dict[str, Steps] = field(default_factory=dict)
    tokens: list[CostlyToken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: Description = field(default_factory=Description)
    folder: str = ""
    setup: Setup = field(default_factory=Setup)

    def first_of(self, *names: str) -> tuple[str, Series] | None:
        """The first of these metrics that the run has."""
        return next(((name, self.metrics[name]) for name in names if len(self.metrics.get(name, ()))), None)

    @property
    def first_step(self) -> int:
        finite = (int(data.steps[0]) for data in self.metrics.values() if len(data))
        return min([*finite, *(int(steps[0]) for steps in self.broken.values())], default=0)

    @property
    def last_step(self) -> int:
        finite = (data.last_step for data in self.metrics.values() if len(data))
        return max([*finite, *(int(steps[-1]) for steps in self.broken.values())], default=0)


def read_runs(paths: list[str]) -> list[Run]:
    """Every run under the given paths, each with a name of its own.

    Raises:
        ReportError: a path holds no run.
    """
    if paths == sorted(paths):  # as a shell gives them: seed10 before seed2
        paths = sorted(paths, key=natural)
    return distinct([run for path in paths for run in read_path(Path(path))])


GIVE = "a log of verl's file logger (.jsonl), a TensorBoard folder, the output folder of a TRL run, or W&B's export"


def read_path(path: Path) -> list[Run]:
    """The run at a path, or the runs in the folder and all folders below it."""
    if not path.exists():
        raise ReportError(f"{path} does not exist. Give {GIVE}.")
    if not path.is_dir():
        errors: list[ReportError] = []
        found = [_run(path, [logs]) for logs in _all([path], errors)]
        if not found:
            raise errors[0] if errors else ReportError(NOTHING.format(path=path))
        return found
    runs: list[Run] = []
    errors = []
    for folder, files in folders(path):
        new, unread = read_folder(folder, files)
        if new:
            new[0].notes[:0] = left_out(unread)
        else:
            errors += unread
        runs += new
    if not runs:
        raise ReportError(*[line for error in errors for line in error.args] or [NOTHING.format(path=path)])
    runs[0].notes[:0] = left_out([error for error in errors if not isinstance(error, NoLog)])
    return runs


NOTHING = (
    "{path} holds no run: neither a *.jsonl of verl's file logger nor TensorBoard's event files lie in it "
    'or below. Log with trainer.logger=\'["console","file"]\' or \'["tensorboard"]\'.'
)


def read_folder(folder: Path, files: list[Path]) -> tuple[list[Run], list[ReportError]]:
    """The runs whose logs lie in a folder, and what is wrong with the files that hold none.

    Where a file log lies beside TensorBoard's events, the file log counts.
    """
    errors: list[ReportError] = []
    files = sorted(files, key=lambda path: natural(path.name))
    logs = _all([path for path in files if not is_events(path)], errors)
    events = [path for path in files if is_events(path)]
    ignored = bool(logs and events)
    runs = []
    for group in grouped(logs or _all(events, errors)):
        try:
            runs.append(_run(folder, group))
        except ReportError as error:
            errors.append(error)
    if len(runs) > 1:
        for run in runs:
            run.notes += [UNJOINED.format(step=run.first_step)] if run.first_step > 1 else []
    if ignored and runs:
        runs[0].notes.append("The folder holds a file log and TensorBoard events; the events were left out.")
    return runs, errors


UNJOINED = (
    "Begins at step {step}. If it goes on with another run of this folder, name the files NAME-try-1.jsonl, "
    "NAME-try-2.jsonl, and they are joined."
)


def left_out(errors: list[ReportError]) -> list[str]:
    """A note on each file that holds no run; of many, on the first ones."""
    notes = [f"Left out: {line}" for error in errors for line in error.args]
    if len(notes) <= MOST_NAMED:
        return notes
    return [*notes[:MOST_NAMED], f"Left out: {len(notes) - MOST_NAMED} more files that hold no run."]


def _all(paths: list[Path], errors: list[ReportError]) -> list[list[Log]]:
    """Every file that is a log, as its attempts."""
    files = read_csvs([path for path in paths if path.suffix == ".csv"], errors)
    for path in paths:
        if path.suffix == ".csv":
            continue
        try:
            files.append(_read(path))
        except ReportError as error:
            errors.append(error)
    return files


def _read(path: Path) -> list[Log]:
    try:
        if path.name == STATE:
            return read_trainer_state(path)
        if path.suffix == ".wandb":
            return read_wandb(path)
        return read_events(path) if is_events(path) else read_jsonl(path)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.") from error


def _run(place: Path, files: list[list[Log]]) -> Run:
    """One run from the attempts at it; ``place`` is the file or the folder that was asked for."""
    logs = ordered(files)
    notes = [note for log in logs for note in log.notes]
    if len(logs) > 1:
        notes.insert(0, f"Joined {len(logs)} attempts by step: " + ", ".join(log.name for log in logs) + ".")
    metrics, broken, replaced = join(logs)
    if not metrics and not broken:
        where = logs[0].path if len(files) == 1 else place
        raise ReportError(
            f"{where} logs none of the metrics that the report draws: actor/entropy, critic/score/mean, ..."
        )
    until = dict(zip((log.path for log in logs), last_steps(logs), strict=True))
    tokens, unread = read_tokens([(side, until.get(log, math.inf)) for side, log in _side_files(list(until), TOKENS)])
    about, unsaid = read_descriptions([side for side, _ in _side_files(list(until), RUN)])
    notes += replaced + _counted(broken, logs) + unread + unsaid
    name, above = _names(place, files)
    last = logs[-1].path
    own = beside(last, RUN)
    setup = read_setup(last, own if own.is_file() else home(last) / RUN, logs[0].started)
    return Run(name, metrics, broken, tokens, notes, about, above, setup)


def _side_files(logs: list[Path], name: str) -> list[tuple[Path, Path]]:
    """Each attempt's own, with its log; where no attempt has one, the one that the folder's logs share."""
    own = [(side, log) for log in logs if os.path.lexists(side := beside(log, name))]
    shared = home(logs[0]) / name
    return own or [(shared, shared)]


def _counted(broken: dict[str, Steps], logs: list[Log]) -> list[str]:
    """How many values of each metric cannot be drawn."""
    unread: Counter[str] = Counter()
    for log in logs:
        unread.update(log.unread)
    lost = [f"{name} is not finite at {len(steps)} steps, which are left out." for name, steps in broken.items()]
    return lost + [
        f"{name} is no number at {count} steps, which are left out." for name, count in sorted(unread.items())
    ]


def _names(place: Path, files: list[list[Log]]) -> tuple[str, str]:
    """What a run is called, and the folder above what it is called after."""
    first = files[0][0].path.resolve()
    own, folder = run_name(first), home(first)
    if place.is_dir() and own is not None:
        name = own or folder.name
    else:
        own = "" if is_events(first) or stem(first) in NAMELESS else stem(first)
        name = own or folder.name
    above = folder.name if own else folder.parent.name
    return _printable(name), _printable(above)


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode() or "run"


def distinct(runs: list[Run]) -> list[Run]:
    """Tell runs that share a name apart: by their folders where these differ, else by a number."""
    shared: dict[str, list[Run]] = {}
    for run in runs:
        shared.setdefault(run.name, []).append(run)
    for name, same in shared.items():
        if len(same) > 1 and len({run.folder for run in same}) == len(same):
            for run in same:
                run.name = f"{run.folder}/{name}"
    taken: set[str] = set()
    for run in runs:
        name, number = run.name, 1
        while run.name in taken:
            number += 1
            run.name = f"{name} ({number})"
        taken.add(run.name)
    return runs
