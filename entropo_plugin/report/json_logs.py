"""Reads logs in JSON: one object a line, as verl's file logger writes them, and transformers' trainer_state.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from entropo_plugin.report.files import ReportError, lines, opened
from entropo_plugin.report.log import Recorder, step_of, time_of

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

quick_loads: Callable[[bytes], Any] = orjson.loads if orjson else json.loads

FORM = '{"step": 3, "data": {"actor/entropy": 0.7}}'
# A file whose first lines hold no record is no log: rollouts and data sets are .jsonl too, and larger.
PATIENCE = 100
LARGEST_STATE = 10**9
Record = TypeVar("Record")


class NoLog(ReportError):
    """A file of another kind."""


@dataclass
class Count:
    """Lines of a file: those that hold a record, those that hold none, and whether the last one breaks off."""

    good: int = 0
    bad: int = 0
    torn: bool = False

    def note(self, path: Path, why: str) -> list[str]:
        """How many lines hold no record, where there are some."""
        total = self.good + self.bad
        return [f"{path.name}: {self.bad} of {total} lines {why} and were passed over."] if self.bad else []


def records(path: Path, parse: Callable[[bytes], Record | None], count: Count) -> Iterator[Record]:
    """What ``parse`` makes of the lines; the others are counted, and a file that begins with too many is left."""
    with opened(path) as file:
        for line in lines(file):
            count.torn = not line.endswith(b"\n")
            if (record := parse(line)) is not None:
                count.good += 1
                yield record
            elif line.strip():
                count.bad += 1
                if count.bad == PATIENCE and not count.good:
                    return


def read_jsonl(path: Path, recorder: Recorder) -> None:
    """A log as far as it can be read; what cannot be is noted.

    Raises:
        ReportError: the file holds no record at all.
    """
    count = Count()
    for record in records(path, parse, count):
        recorder.take(int(record["step"]), record["data"], time_of(record, record["data"]))
    if not count.good:
        raise _nothing(path, count)
    if count.bad and count.torn:
        count.bad -= 1
        recorder.notes.append(f"{path.name} ends within a line: the run is being written, or was interrupted.")
    recorder.notes.extend(count.note(path, "are not records"))


def parse(line: bytes) -> dict[str, Any] | None:
    """One line's record, or None where there is none. NaN and Infinity, which JSON does not know, are understood."""
    try:
        record = quick_loads(line)
    except (ValueError, RecursionError):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return None
    fine = isinstance(record, dict) and isinstance(record.get("data"), dict) and step_of(record.get("step")) is not None
    return record if fine else None


def _nothing(path: Path, count: Count) -> ReportError:
    if not count.bad:
        return ReportError(f"{path} is empty: nothing has been logged yet.")
    if count.bad == 1 and count.torn:
        return ReportError(f"{path} holds less than one whole line: the run has only begun, or was interrupted.")
    which = f"first {count.bad}" if count.bad == PATIENCE else str(count.bad)
    return NoLog(f"{path} is no log of verl's file logger: none of its {which} lines has the form {FORM}.")


def read_trainer_state(path: Path, recorder: Recorder) -> None:
    """What transformers keeps of the log of a TRL run up to a checkpoint.

    Raises:
        ReportError: it is no such file.
    """
    with opened(path, LARGEST_STATE) as file:
        try:
            history = json.loads(file.read())["log_history"]
        except (ValueError, RecursionError, KeyError, TypeError):
            history = None
    if not isinstance(history, list):
        raise ReportError(f"{path} is no {path.name} of transformers: it has no log_history.")
    for record in history:
        step = step_of(record.get("step")) if isinstance(record, dict) else None
        if step is not None:
            recorder.take(step, record)
