"""Reads the log of verl's file logger: one JSON object a line, ``{"step": 3, "data": {"actor/entropy": 0.7, ...}}``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entropo_plugin.report.attempts import Log, ReportError, step_of

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

quick_loads: Callable[[bytes], Any] = orjson.loads if orjson else json.loads

FORM = '{"step": 3, "data": {"actor/entropy": 0.7}}'


def read_jsonl(path: Path) -> Log:
    """All records of a file as far as it can be read; what cannot be is noted.

    Raises:
        ReportError: the file holds no record at all.
    """
    log, good, bad, line = Log(path), 0, 0, b""
    with path.open("rb") as lines:
        for line in lines:
            record = parse(line)
            if record is None:
                bad += bool(line.strip())
            else:
                good += 1
                take(log, record)
    if not good:
        raise ReportError(_nothing(path, bad, line))
    if bad and not line.endswith(b"\n"):
        bad -= 1
        log.notes.append(f"{path.name} ends within a line: the run is being written, or was interrupted.")
    if bad:
        log.notes.append(f"{path.name}: {bad} of {good + bad} lines are not records and were passed over.")
    return log


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


def take(log: Log, record: dict[str, Any]) -> None:
    """Add one record to the log."""
    step, ignored = int(record["step"]), log.ignored
    for name, value in record["data"].items():
        if name not in ignored:
            log.add(step, name, value)


def _nothing(path: Path, bad: int, line: bytes) -> str:
    if not bad:
        return f"{path} is empty: nothing has been logged yet."
    if bad == 1 and not line.endswith(b"\n"):
        return f"{path} holds less than one whole line: the run has only begun, or was interrupted."
    return f"{path} is no log of verl's file logger: none of its {bad} lines has the form {FORM}."
