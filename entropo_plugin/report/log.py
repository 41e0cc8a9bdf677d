"""What one attempt at a run logged: values by metric and step, as they stand in the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from entropo_plugin.report.aliases import known_as

# Prefixes of the metrics that the report looks at; a log holds some 150 others.
WANTED = (
    "entropo/",
    "entropy",
    "actor/entropy",
    "actor/ppo_kl",
    "actor/pg_clipfrac",
    "actor/grad_norm",
    "critic/score/mean",
    "critic/rewards/mean",
    "response_length/mean",
    "perf/total_num_tokens",
    "perf/time_per_step",
    "timing_s/step",
    "num_tokens",
    "train/num_tokens",
    "frac_reward_zero_std",
    "train/frac_reward_zero_std",
    "val-core/",
    "val-aux/",
)
LARGEST_STEP = 2**53
# Beyond this a number cannot be drawn, and is no measurement either: it counts as infinite.
LARGEST_VALUE = 1e30
LONGEST_NUMBER = 400
# What loggers call the time of a record; a small number under the last name is a duration.
TIMES = {"timestamp": 0.0, "_timestamp": 0.0, "wall_time": 0.0, "time": 1e9}


@dataclass
class Log:
    """One attempt.

    Attributes:
        path: the file.
        part: its number among the attempts in that file, from 1.
        started: seconds since 1970 of its first record, where the log says so.
        columns: per metric, steps and values in the order of the log; NaN for what is not finite.
        unread: per metric, how many values were no numbers.
        notes: what a reader should know about the file.
        ignored: names met so far that the report does not look at.
    """

    path: Path
    part: int = 1
    started: float | None = None
    columns: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)

    def add(self, step: int, name: str, value: Any) -> None:
        """Take one value; what is no number is counted."""
        own = name if name in self.columns else known_as(name)
        if own not in self.columns and not own.startswith(WANTED):
            self.ignored.add(name)
            return
        number = number_of(value)
        if number is None:
            self.unread[own] = self.unread.get(own, 0) + 1
            return
        steps, values = self.columns.setdefault(own, ([], []))
        steps.append(step)
        values.append(number)

    def repeats(self, step: int, names: Iterable[str]) -> bool:
        """Whether one of these metrics has been logged for this step or a later one."""
        own = (name if name in self.columns else known_as(name) for name in names)
        return any(self.columns[name][0][-1] >= step for name in own if name in self.columns)

    @property
    def first(self) -> int | None:
        """Smallest step."""
        return min((min(steps) for steps, _ in self.columns.values()), default=None)

    @property
    def last(self) -> int | None:
        """Largest step."""
        return max((max(steps) for steps, _ in self.columns.values()), default=None)

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

    def at(self, step: int, names: Iterable[str], time: float | None = None) -> Log:
        """The attempt that a record of these metrics at this step belongs to."""
        log = self.logs[-1]
        if step < self._furthest and step in self._steps and log.repeats(step, names):
            log = Log(log.path, log.part + 1, ignored=log.ignored)
            self.logs.append(log)
            self._steps.clear()
            self._furthest = step
        self._steps.add(step)
        self._furthest = max(self._furthest, step)
        if log.started is None and time is not None and math.isfinite(time):
            log.started = time
        return log

    @property
    def notes(self) -> list[str]:
        """What a reader should know about the file; kept with its first attempt."""
        return self.logs[0].notes


def number_of(value: Any) -> float | None:
    """A logged value: NaN for None, as verl's logger writes it, and for what is not finite; None for no number.

    Numbers as text are read; true and false are no numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        return None
    if isinstance(value, str) and len(value) > LONGEST_NUMBER:
        return None
    try:
        number = math.nan if value is None else float(value)
    except OverflowError:
        return math.nan
    except ValueError:
        return None
    return number if abs(number) < LARGEST_VALUE else math.nan


def step_of(value: Any) -> int | None:
    """A step number, or None for anything else."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_STEP
    return int(value) if fine and value == int(value) else None


def time_of(record: dict[str, Any]) -> float | None:
    """When a record was written, in seconds since 1970: a number, or text as ISO 8601 has it."""
    for values in (record, record["data"]):
        for name, least in TIMES.items():
            if name in values and (time := _seconds(values[name])) is not None and time > least:
                return time
    return None


def _seconds(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        except (ValueError, OverflowError):
            pass
    return number_of(value)
