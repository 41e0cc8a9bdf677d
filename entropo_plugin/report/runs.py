"""Finds and reads the runs that a user names: a log file, a folder of attempts, a folder of runs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from entropo_plugin.report.attempts import Log, ReportError, join, last_steps, read_all
from entropo_plugin.report.jsonl import read_jsonl
from entropo_plugin.report.series import Series
from entropo_plugin.report.tensorboard import PATTERN, read_events
from entropo_plugin.report.tokens import CostlyToken, read_tokens
from entropo_plugin.side_file import NAME as TOKENS
from entropo_plugin.side_file import beside

# File names that say nothing about the run: its folder's name does.
NAMELESS = {"metrics", "log", "train"}


@dataclass
class Run:
    """One run.

    Attributes:
        name: what the report calls it.
        metrics: its series by verl's names.
        tokens: the tokens that cost it most entropy, costliest first.
        notes: what a reader should know about its log.
    """

    name: str
    metrics: dict[str, Series]
    tokens: list[CostlyToken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def first_of(self, *names: str) -> tuple[str, Series] | None:
        """The first of these metrics that the run has."""
        return next(((name, self.metrics[name]) for name in names if len(self.metrics.get(name, ()))), None)

    @property
    def last_step(self) -> int:
        return max((data.last_step for data in self.metrics.values() if len(data)), default=0)


def read_runs(paths: list[str]) -> list[Run]:
    """Every run under the given paths, each with a name of its own.

    Raises:
        ReportError: a path holds no run.
    """
    return distinct([run for path in paths for run in read_path(Path(path))])


def read_path(path: Path) -> list[Run]:
    """The run at a path, or the runs in the folders below it."""
    if not path.exists():
        raise ReportError(f"{path} does not exist. Give a log of verl's file logger (.jsonl) or a TensorBoard folder.")
    if path.is_file():
        return [_run(path, [path])]
    if files := log_files(path):
        return [_run(path, files)]
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and log_files(folder)]
    if not below:
        raise ReportError(
            f"{path} holds no run: neither a *.jsonl of verl's file logger nor TensorBoard's event files lie in it "
            'or one folder below. Log with trainer.logger=\'["console","file"]\' or \'["tensorboard"]\'.'
        )
    return _read_below(below)


def _read_below(folders: list[Path]) -> list[Run]:
    """Each folder's run; those that cannot be read are noted, unless none can."""
    runs, errors = [], []
    for folder in folders:
        try:
            runs += read_path(folder)
        except ReportError as error:
            errors.append(str(error))
    if not runs:
        raise ReportError("\n".join(errors))
    runs[0].notes += [f"Left out: {error}" for error in errors]
    return runs


def log_files(folder: Path) -> list[Path]:
    """The attempts in a folder, oldest first: by the second in which they were last written, then by name."""
    found = [path for path in (*folder.glob("*.jsonl"), *folder.glob(PATTERN)) if not path.name.endswith(TOKENS)]
    return sorted((path for path in found if path.is_file()), key=lambda path: (int(path.stat().st_mtime), _key(path)))


def _key(path: Path) -> list[tuple[int, str]]:
    """Natural order: try-2 before try-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]


def _run(path: Path, files: list[Path]) -> Run:
    logs, notes = read_all(files, _read)
    if {_is_events(log.path) for log in logs} == {True, False}:
        logs = [log for log in logs if not _is_events(log.path)]
        notes.append("The folder holds a file log and TensorBoard events; the events were left out.")
    if len(logs) > 1:
        notes.append(f"Joined {len(logs)} attempts by step: " + ", ".join(log.path.name for log in logs) + ".")
    metrics, replaced = join(logs)
    if not metrics:
        raise ReportError(
            f"{path} logs none of the metrics that the report draws: actor/entropy, critic/score/mean, ..."
        )
    tokens, unread = read_tokens(_side_files(path, logs))
    notes += [note for log in logs for note in log.notes] + replaced + _lost(logs) + unread
    return Run(_name(path), metrics, tokens, notes)


def _side_files(path: Path, logs: list[Log]) -> list[tuple[Path, float]]:
    """Each attempt's own, and one that attempts share; where a single log is named, that is the last resort."""
    own = [(beside(log.path), until) for log, until in zip(logs, last_steps(logs), strict=True)]
    if path.is_file() and own[0][0].is_file():
        return own
    return [*own, ((path if path.is_dir() else path.parent) / TOKENS, math.inf)]


def _read(path: Path) -> Log:
    try:
        return read_events(path) if _is_events(path) else read_jsonl(path)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.") from error


def _is_events(path: Path) -> bool:
    return "tfevents" in path.name


def _lost(logs: list[Log]) -> list[str]:
    total: dict[str, int] = {}
    for log in logs:
        for name, count in log.lost.items():
            total[name] = total.get(name, 0) + count
    return [f"{name} is not finite at {count} steps, which are left out." for name, count in sorted(total.items())]


def _name(path: Path) -> str:
    path = path.resolve()
    nameless = path.is_file() and (_is_events(path) or path.stem in NAMELESS)
    name = path.name if path.is_dir() else path.parent.name if nameless else path.stem
    return name.encode("utf-8", "replace").decode()


def distinct(runs: list[Run]) -> list[Run]:
    """Number the runs that share a name."""
    seen: dict[str, int] = {}
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        if seen[run.name] > 1:
            run.name = f"{run.name} ({seen[run.name]})"
    return runs
