"""What one attempt at a run logged: values by metric and step, as they stand in the file."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from entropo_plugin.report.names import WANTED, known_as

LARGEST_STEP = 2**53
# Beyond this no sum of squares is safe, and no measurement lies there.
LARGEST_VALUE = 1e30
LONGEST_NUMBER = 400
# What loggers call the time of a record; a small number under the last name is a duration. No time is beyond 9999.
TIMES = {"timestamp": 0.0, "_timestamp": 0.0, "wall_time": 0.0, "time": 1e9}
LAST_TIME = 253402300800.0
NO_NUMBER = "is no number at {count} steps, which are left out."
TOO_LARGE = f"is beyond {LARGEST_VALUE:g} at {{count}} steps, which are drawn at that."


@dataclass
class Log:
    """One attempt.

    Attributes:
        path: the file.
        part: its number among the attempts in that file, from 1.
        started: seconds since 1970 of its first record, where the log says so.
        columns: per metric, steps and values in the order of the log; NaN for what is not finite.
        odd: per metric and NO_NUMBER or TOO_LARGE, how many values were that.
        notes: what a reader should know about the file.
        ignored: names met so far that the report does not look at.
        config: the run's settings, where they stand in the file.
    """

    path: Path
    part: int = 1
    started: float | None = None
    columns: dict[str, tuple[array[int], array[float]]] = field(default_factory=dict)
    odd: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    config: dict[str, Any] = field(default_factory=dict)

    def add(self, step: int, name: str, value: Any) -> None:
        """Take one value; what is no number, or too large a one, is counted."""
        own = name if name in self.columns else known_as(name)
        if not own.startswith(WANTED):
            self.ignored.add(name)
            return
        number = number_of(value)
        if number is None or abs(number) == LARGEST_VALUE:
            self.odd[own, NO_NUMBER if number is None else TOO_LARGE] += 1
        if number is not None:
            steps, values = self.columns.setdefault(own, (array("q"), array("d")))
            steps.append(step)
            values.append(number)

    def repeats(self, step: int, names: Iterable[str]) -> bool:
        """Whether one of these metrics has been logged for this step or a later one."""
        own = (name if name in self.columns else known_as(name) for name in names)
        return any(self.columns[name][0][-1] >= step for name in own if name in self.columns)

    @property
    def first(self) -> float:
        """Smallest step; infinite where nothing was logged."""
        return min((min(steps) for steps, _ in self.columns.values()), default=math.inf)

    @property
    def last(self) -> float:
        """Largest step."""
        return max((max(steps) for steps, _ in self.columns.values()), default=-math.inf)

    @property
    def name(self) -> str:
        """The file's name, and which part of it where it holds several attempts."""
        return self.path.name if self.part == 1 else f"{self.path.name}, part {self.part}"


class Recorder:
    """Sorts the records of one file into attempts.

    A record that logs a metric anew, for a step that the file holds and has gone beyond, begins the next one: a resumed
    run appended to it. What only comes late, such as the validation of an earlier step, does not.
    """

    def __init__(self, path: Path):
        self.logs = [Log(path)]
        self._steps: set[int] = set()
        self._furthest = -LARGEST_STEP

    def take(self, step: int, values: dict[str, Any], time: float | None = None) -> None:
        """Add one record to the attempt that it belongs to."""
        log = self._attempt(step, values)
        if log.started is None:
            log.started = time
        for name, value in values.items():
            column = log.columns.get(name)
            if column and type(value) is float and -LARGEST_VALUE < value < LARGEST_VALUE:  # as good as all of them
                column[0].append(step)
                column[1].append(value)
            elif name not in log.ignored:
                log.add(step, name, value)

    def _attempt(self, step: int, names: Iterable[str]) -> Log:
        log = self.logs[-1]
        if step < self._furthest and step in self._steps and log.repeats(step, names):
            log = Log(log.path, log.part + 1, ignored=log.ignored)
            self.logs.append(log)
            self._steps.clear()
            self._furthest = step
        self._steps.add(step)
        self._furthest = max(self._furthest, step)
        return log

    @property
    def notes(self) -> list[str]:
        """What a reader should know about the file; kept with its first attempt."""
        return self.logs[0].notes


def number_of(value: Any) -> float | None:
    """A logged value: NaN for None, as verl's logger writes it, and for what is not finite; None for no number.

    Numbers as text are read; true and false are no numbers. What is beyond LARGEST_VALUE counts as that.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        return None
    if isinstance(value, str) and len(value) > LONGEST_NUMBER:
        return None
    try:
        number = math.nan if value is None else float(value)
    except OverflowError:  # a whole number without end
        number = LARGEST_VALUE if value > 0 else -LARGEST_VALUE  # type: ignore[operator]
    except ValueError:
        return None
    return max(-LARGEST_VALUE, min(LARGEST_VALUE, number)) if math.isfinite(number) else math.nan


def step_of(value: Any) -> int | None:
    """A step number, or None for anything else."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_STEP
    return int(value) if fine and value == int(value) else None


def time_of(*records: dict[str, Any]) -> float | None:
    """When a record was written, in seconds since 1970: a number, or text as ISO 8601 has it."""
    named = ((_seconds(record[name]), least) for record in records for name, least in TIMES.items() if name in record)
    return next((time for time, least in named if time is not None and least < time < LAST_TIME), None)


def _seconds(value: Any) -> float | None:
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except (AttributeError, ValueError, OverflowError):
        return number_of(value)
