"""Reads what W&B keeps of a run: its own file, ``run-ID.wandb``, and its exports as CSV; needs no wandb.

The file lies in the folder of an offline run. It is a log of LevelDB's format: blocks of 32 KiB, in them records in one
piece or several, each a message ``Record`` of wandb_internal.proto. Of these the run's history, name and settings are
read. A CSV is a picture's table, ``Step,RUN - METRIC,...``, or one run's history, ``_step,METRIC,...``.
"""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.json_logs import NoLog
from entropo_plugin.report.log import Log, Recorder, number_of, step_of, time_of

MAGIC = b":W&B"
BLOCK, HEADER = 2**15, 7
WHOLE, FIRST, LAST = 1, 2, 4
# Field numbers: Record.history, .config and .run; HistoryRecord.item and .step, ConfigRecord.update; HistoryItem.key,
# .nested_key and .value_json, and ConfigItem's; RunRecord.config and .display_name.
HISTORY, CONFIG, RUN, ITEM, STEP, KEY, NESTED, VALUE, RUN_CONFIG, DISPLAY_NAME = 2, 5, 17, 1, 2, 1, 2, 16, 4, 8
# Names of the column that holds the step, and ends of those that are no metric of their own.
STEPS = ("Step", "_step", "step", "global_step", "train/global_step")
EXTREMES = ("__MIN", "__MAX")


def read_wandb(path: Path, recorder: Recorder) -> None:
    """The log of one run, under the name that it has in W&B, and its settings.

    Raises:
        ReportError: it is no such file.
    """
    log, step = recorder.logs[0], -1
    with opened(path) as file:
        if file.read(HEADER)[:4] != MAGIC:
            raise ReportError(f"{path} is no file of W&B's: it does not begin with {MAGIC.decode()}.")
        for number, value in (field for record in _records(file) for field in _fields(record)):
            if number == RUN:
                log.config |= _items(_first(value, RUN_CONFIG))
                if name := _text(_first(value, DISPLAY_NAME)):
                    log.path = path.with_name(name.replace("/", "-")[:100] + ".wandb")
            elif number == CONFIG:
                log.config |= _items(value)
            elif number == HISTORY:
                step = _take(recorder, value, step + 1)
    log.config.pop("_wandb", None)


def _take(recorder: Recorder, history: Any, next_step: int) -> int:
    """Add one line of the history; returns its step."""
    items = _items(history)
    logged = step_of(items.get("_step", _first(_first(history, STEP), 1)))
    step = next_step if logged is None else logged
    recorder.take(step, items, time_of(items))
    return step


def _items(message: Any) -> dict[str, Any]:
    return dict(_item(value) for number, value in _fields(message) if number == ITEM)


def _item(item: Any) -> tuple[str, Any]:
    name = _text(_first(item, KEY)) or "/".join(_text(value) for number, value in _fields(item) if number == NESTED)
    try:
        return name, json.loads(_text(_first(item, VALUE)) or "null")
    except (ValueError, RecursionError):
        return name, ""


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Each record, put together from its pieces; a file that breaks off ends there."""
    place, parts = HEADER, b""
    while True:
        if BLOCK - place < HEADER:
            file.read(BLOCK - place)
            place = 0
        head = file.read(HEADER)
        if len(head) < HEADER:
            return
        _, size, kind = struct.unpack("<IHB", head)
        parts = (b"" if kind in (WHOLE, FIRST) else parts) + file.read(size)
        place = (place + HEADER + size) % BLOCK
        if kind in (WHOLE, LAST):
            yield parts


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a protobuf message's fields: whole numbers and bytes; what is damaged ends it."""
    place = 0
    while isinstance(message, bytes) and place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        value: Any = None
        if kind == 0:
            value, place = _varint(message, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        else:
            return
        yield key >> 3, value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            break
    return value, place


def _first(message: Any, number: int) -> Any:
    return next((value for other, value in _fields(message) if other == number), None)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def read_csvs(paths: list[Path], errors: list[ReportError]) -> list[list[Log]]:
    """The runs in these files; what several files tell of one run is put together."""
    runs: dict[Path, Log] = {}
    for path in paths:
        try:
            _read(path, runs)
        except ReportError as error:
            errors.append(error)
        except (OSError, csv.Error) as error:
            errors.append(NoLog(f"{path} cannot be read: {error}."))
    return [[log] for log in runs.values() if log.columns]


def _read(path: Path, runs: dict[Path, Log]) -> None:
    with opened(path) as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", "replace", newline=""))
        heads = next(rows, [])
        step = next((heads.index(name) for name in STEPS if name in heads), None)
        if step is None:
            raise NoLog(f"{path} is no export of W&B: none of its columns is called {', '.join(STEPS)}.")
        targets = [_target(path, head) for head in heads]
        for row in rows:
            at = number_of(row[step]) if step < len(row) else None
            place = None if at is None else step_of(at)
            for (run, metric), value in zip(targets, row, strict=False) if place is not None else ():
                if metric and value:
                    runs.setdefault(run, Log(run)).add(place, metric, value)  # type: ignore[arg-type]


def _target(path: Path, head: str) -> tuple[Path, str]:
    """The run that a column belongs to, as the log that it could have been, and its metric; none for extremes."""
    run, dash, metric = head.rpartition(" - ")
    named = path.with_name(run.replace("/", "-")[:100] + ".csv") if dash and run.strip(". ") else path
    return named, "" if metric.endswith(EXTREMES) or metric in STEPS else metric
