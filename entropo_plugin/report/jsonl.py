"""Reads the log of verl's file logger: one JSON object a line, ``{"step": 3, "data": {"actor/entropy": 0.7, ...}}``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entropo_plugin.report.files import ReportError, lines, opened
from entropo_plugin.report.log import Log, Recorder, step_of, time_of

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

quick_loads: Callable[[bytes], Any] = orjson.loads if orjson else json.loads

FORM = '{"step": 3, "data": {"actor/entropy": 0.7}}'
# A file whose first lines hold no record is no log: rollouts and data sets are .jsonl too, and larger.
PATIENCE = 100


class NoLog(ReportError):
    """A file of another kind."""


def read_jsonl(path: Path) -> list[Log]:
    """The attempts in a file as far as it can be read; what cannot be is noted.

    Raises:
        ReportError: the file holds no record at all.
    """
    recorder, good, bad, line = Recorder(path), 0, 0, b""
    with opened(path) as file:
        for line in lines(file):
            record = parse(line)
            if record is None:
                bad += bool(line.strip())
            else:
                good += 1
                take(recorder, record)
            if bad == PATIENCE and not good:
                break
    if not good:
        raise _nothing(path, bad, line)
    if bad and not line.endswith(b"\n"):
        bad -= 1
        recorder.notes.append(f"{path.name} ends within a line: the run is being written, or was interrupted.")
    if bad:
        recorder.notes.append(f"{path.name}: {bad} of {good + bad} lines are not records and were passed over.")
    return recorder.logs


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


def take(recorder: Recorder, record: dict[str, Any]) -> None:
    """Add one record to the attempt that it belongs to."""
    step = int(record["step"])
    log = recorder.at(step, record["data"], time_of(record))
    ignored = log.ignored
    for name, value in record["data"].items():
        if name not in ignored:
            log.add(step, name, value)


def _nothing(path: Path, bad: int, line: bytes) -> ReportError:
    if not bad:
        return ReportError(f"{path} is empty: nothing has been logged yet.")
    if bad == 1 and not line.endswith(b"\n"):
        return ReportError(f"{path} holds less than one whole line: the run has only begun, or was interrupted.")
    which = f"first {bad}" if bad == PATIENCE else str(bad)
    return NoLog(f"{path} is no log of verl's file logger: none of its {which} lines has the form {FORM}.")
