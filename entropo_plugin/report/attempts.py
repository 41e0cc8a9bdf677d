"""What one log file holds, and how the logs of several attempts at one run become one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entropo_plugin.report.series import Series, series

# Prefixes of the metrics that the report looks at; a log holds some 150 others.
WANTED = (
    "entropo/",
    "actor/entropy",
    "actor/ppo_kl",
    "actor/pg_clipfrac",
    "actor/grad_norm",
    "critic/score/mean",
    "critic/rewards/mean",
    "response_length/mean",
    "val-core/",
    "val-aux/",
)
LARGEST_STEP = 2**53
# Beyond this a number cannot be drawn, and is no measurement either.
LARGEST_VALUE = 1e30


class ReportError(Exception):
    """Input that cannot be drawn. The message names it and says what to give instead."""


@dataclass
class Log:
    """One attempt.

    Attributes:
        path: the file.
        columns: per metric, steps and values in the order of the log.
        lost: per metric, how many values were not finite.
        notes: what a reader should know about the file.
        ignored: names met so far that the report does not look at.
    """

    path: Path
    columns: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)

    def add(self, step: int, name: str, value: Any) -> None:
        """Take one value; None stands for NaN, as verl's logger writes it. Text and the like are passed over."""
        if name not in self.columns and not name.startswith(WANTED):
            self.ignored.add(name)
            return
        if not (value is None or isinstance(value, int | float)):
            return
        number = _finite(value)
        if number is None:
            self.lost[name] = self.lost.get(name, 0) + 1
            return
        steps, values = self.columns.setdefault(name, ([], []))
        steps.append(step)
        values.append(number)

    @property
    def first(self) -> int | None:
        """Smallest step."""
        return min((min(steps) for steps, _ in self.columns.values()), default=None)

    @property
    def last(self) -> int | None:
        """Largest step."""
        return max((max(steps) for steps, _ in self.columns.values()), default=None)


def _finite(value: Any) -> float | None:
    try:
        number = math.nan if value is None else float(value)
    except OverflowError:
        return None
    return number if abs(number) < LARGEST_VALUE else None


def step_of(value: Any) -> int | None:
    """A step number, or None for anything else."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_STEP
    return int(value) if fine and value == int(value) else None


def read_all(paths: list[Path], read: Callable[[Path], Log]) -> tuple[list[Log], list[str]]:
    """Every file that is a log, and a note on each that is not.

    Raises:
        ReportError: none is a log.
    """
    logs, notes = [], []
    for path in paths:
        try:
            logs.append(read(path))
        except ReportError as error:
            notes.append(str(error))
    if not logs:
        raise ReportError("\n".join(notes))
    return logs, [f"Left out: {note}" for note in notes]


def join(logs: list[Log]) -> tuple[dict[str, Series], list[str]]:
    """Attempts at one run, oldest first, as one: at each step the later attempt's values stand.

    An attempt that resumes at step s throws away what the earlier ones did after s, and so does the join.
    """
    parts = list(zip(logs, last_steps(logs), strict=True))
    notes = [
        f"{log.path.name} went on to step {log.last}; a later attempt starts at {until:g} and replaces it."
        for log, until in parts
        if log.last is not None and log.last > until
    ]
    names = sorted({name for log in logs for name in log.columns})
    return {name: _joined(name, parts) for name in names}, notes


def last_steps(logs: list[Log]) -> list[float]:
    """The last step of each attempt that still counts: the first of the later ones; infinite for the last."""
    firsts = [math.inf if log.first is None else log.first for log in logs]
    return [min(firsts[place + 1 :], default=math.inf) for place in range(len(logs))]


def _joined(name: str, parts: list[tuple[Log, float]]) -> Series:
    steps: list[int] = []
    values: list[float] = []
    for log, until in parts:
        for step, value in zip(*log.columns.get(name, ([], [])), strict=True):
            if step <= until:
                steps.append(step)
                values.append(value)
    return series(steps, values)
