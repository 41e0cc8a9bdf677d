"""Reads the file of a W&B run, ``run-ID.wandb``, as it lies in the folder of an offline run; needs no wandb.

The file is a log of LevelDB's format: blocks of 32 KiB, in them records in one piece or several, each a message
``Record`` of wandb_internal.proto. Of these the history and the run's name and settings are read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.log import Recorder, time_of

MAGIC = b":W&B"
BLOCK, HEADER = 2**15, 7
WHOLE, FIRST, LAST = 1, 2, 4
# Field numbers: Record.history, .config and .run; HistoryRecord.item and .step, ConfigRecord.update; HistoryItem.key,
# .nested_key and .value_json, and ConfigItem's; RunRecord.config and .display_name.
HISTORY, CONFIG, RUN, ITEM, STEP, KEY, NESTED, VALUE, RUN_CONFIG, DISPLAY_NAME = 2, 5, 17, 1, 2, 1, 2, 16, 4, 8


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
    step = items.get("_step", _first(_first(history, STEP), 1))
    step = step if isinstance(step, int) else next_step
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
