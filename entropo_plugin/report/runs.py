"""Reads the runs that a user names: a log file, a folder of attempts, a folder of runs."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from entropo_plugin.report.attempts import NAMELESS, join, last_steps, ordered, run_name, same_run
from entropo_plugin.report.configuration import read_setup
from entropo_plugin.report.description import read_descriptions
from entropo_plugin.report.files import ReportError
from entropo_plugin.report.json_logs import NoLog, read_jsonl, read_trainer_state
from entropo_plugin.report.log import Log, Recorder
from entropo_plugin.report.run import Run
from entropo_plugin.report.search import STATE, folders, grouped, home, is_events, natural
from entropo_plugin.report.tensorboard import read_events
from entropo_plugin.report.tokens import read_tokens
from entropo_plugin.report.wandb_files import read_csvs, read_wandb
from entropo_plugin.side_file import RUN, TOKENS, beside, stem

__all__ = ["Run", "read_runs"]

MOST_NAMED = 3
GIVE = "a log of verl's file logger (.jsonl), a TensorBoard folder, the output folder of a TRL run, or W&B's export"
NOTHING = (
    "{path} holds no run: neither a *.jsonl of verl's file logger nor TensorBoard's event files lie in it "
    'or below. Log with trainer.logger=\'["console","file"]\' or \'["tensorboard"]\'.'
)
NO_METRIC = "none of the metrics that the report draws: actor/entropy, critic/score/mean, ..."
UNJOINED = (
    "Begins at step {step}. If it goes on with another run of this folder, name the files NAME-try-1.jsonl, "
    "NAME-try-2.jsonl, and they are joined."
)


def read_runs(paths: list[str]) -> list[Run]:
    """Every run under the given paths, each with a name of its own.

    Raises:
        ReportError: a path holds no run.
    """
    if paths == sorted(paths):  # as a shell gives them: seed10 before seed2
        paths = sorted(paths, key=natural)
    runs = distinct([run for path in paths for run in read_path(Path(path))])
    for place, run in enumerate(runs):
        run.place = place
    return runs


def read_path(path: Path) -> list[Run]:
    """The run at a path, or the runs in the folder and all folders below it."""
    if not path.exists():
        raise ReportError(f"{path} does not exist. Give {GIVE}.")
    runs: list[Run] = []
    errors: list[ReportError] = []
    for place, files in folders(path):
        found, unread = read_folder(place, files)
        if found:
            found[0].notes[:0] = left_out(unread)
        else:
            errors += unread
        runs += found
    if not runs:
        raise ReportError(*[line for error in errors for line in error.args] or [NOTHING.format(path=path)])
    runs[0].notes[:0] = left_out([error for error in errors if not isinstance(error, NoLog)])
    return runs


def read_folder(place: Path, files: list[Path]) -> tuple[list[Run], list[ReportError]]:
    """The runs whose logs lie in a folder, or are one file, and what is wrong with the files that hold none.

    Where a file log lies beside TensorBoard's events, the file log counts.
    """
    errors: list[ReportError] = []
    files = sorted(files, key=lambda path: natural(path.name))
    events = [path for path in files if is_events(path)]
    logs = _all([path for path in files if not is_events(path)], errors)
    runs = [_run(place, group) for group in grouped(logs or _all(events, errors), same_run).values()]
    for run in runs if len(runs) > 1 else ():
        run.notes += [UNJOINED.format(step=run.first_step)] if run.first_step > 1 else []
    if logs and events:
        runs[0].notes.append("The folder holds a file log and TensorBoard events; the events were left out.")
    return runs, errors


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
        try:
            files += [_read(path)] if path.suffix != ".csv" else []
        except ReportError as error:
            errors.append(error)
    return files


def _read(path: Path) -> list[Log]:
    recorder = Recorder(path)
    try:
        _reader(path)(path, recorder)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.") from error
    if not any(log.columns for log in recorder.logs):
        raise ReportError(f"{path} logs {NO_METRIC}")
    return recorder.logs


def _reader(path: Path) -> Callable[[Path, Recorder], None]:
    if path.name == STATE:
        return read_trainer_state
    if path.suffix == ".wandb":
        return read_wandb
    return read_events if is_events(path) else read_jsonl


def _run(place: Path, files: list[list[Log]]) -> Run:
    """One run from the attempts at it; ``place`` is the file or the folder that was asked for."""
    logs = ordered(files)
    notes = [note for log in logs for note in log.notes]
    if len(logs) > 1:
        notes.insert(0, f"Joined {len(logs)} attempts by step: " + ", ".join(log.name for log in logs) + ".")
    metrics, broken, replaced = join(logs)
    until = dict(zip((log.path for log in logs), last_steps(logs), strict=True))
    tokens, unread = read_tokens([(side, until[log]) for side, log in _side_files(list(until), TOKENS)])
    about, unsaid = read_descriptions([side for side, _ in _side_files(list(until), RUN)])
    lost = [f"{name} is not finite at {len(steps)} steps, which are left out." for name, steps in broken.items()]
    notes += replaced + lost + _odd(logs) + unread + unsaid
    name, above = _names(place, files)
    return Run(name, metrics, broken, tokens, notes, about, above, read_setup(logs, about.record))


def _side_files(logs: list[Path], name: str) -> list[tuple[Path, Path]]:
    """Each attempt's own, with its log; where no attempt has one, the one that the folder's logs share."""
    own = [(side, log) for log in logs if os.path.lexists(side := beside(log, name))]
    return own or [(home(logs[0]) / name, logs[-1])]


def _odd(logs: list[Log]) -> list[str]:
    """How many values of each metric are no numbers, or too large ones."""
    counts: Counter[tuple[str, str]] = sum((log.odd for log in logs), Counter())
    return [f"{name} {words.format(count=count)}" for (name, words), count in sorted(counts.items())]


def _names(place: Path, files: list[list[Log]]) -> tuple[str, str]:
    """What a run is called, and the folder above what it is called after."""
    first = files[0][0].path.resolve()
    own, folder = run_name(first), home(first)
    if own is None or not place.is_dir():
        own = "" if is_events(first) or stem(first) in NAMELESS else stem(first)
    above = folder.name if own else folder.parent.name
    return _printable(own or folder.name), _printable(above)


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode() or "run"


def distinct(runs: list[Run]) -> list[Run]:
    """Tell runs that share a name apart: by their folders where these differ, else by a number."""
    for same in grouped(runs, attrgetter("name")).values():
        if len(same) > 1 and len({run.folder for run in same}) == len(same):
            for run in same:
                run.name = f"{run.folder}/{run.name}"
    taken: set[str] = set()
    for run in runs:
        names = itertools.chain([run.name], (f"{run.name} ({number})" for number in itertools.count(2)))
        run.name = next(name for name in names if name not in taken)
        taken.add(run.name)
    return runs
