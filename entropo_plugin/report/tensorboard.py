"""Reads TensorBoard event files, as verl's tensorboard logger writes them: one scalar an event."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.log import LARGEST_STEP, Log, Recorder

# A record is its length (8 bytes), the length's checksum (4), the event, and the event's checksum (4).
HEADER, FOOTER = 12, 4
# Scalars take some hundred bytes; pictures and graphs, which others log, more.
LARGEST_EVENT = 2**26


def read_events(path: Path) -> list[Log]:
    """All scalars of one event file, as far as it is whole.

    Raises:
        ReportError: it holds no scalar, or tensorboard is missing.
    """
    event_type = _event_type()
    recorder, events, whole = Recorder(path), 0, True
    for record in records(path):
        event = None if record is None else _parsed(event_type, record)
        if event is None:
            whole = False
            break
        events += 1
        for value in event.summary.value if abs(event.step) < LARGEST_STEP else ():
            log = recorder.at(event.step, (value.tag,), event.wall_time or None)
            log.add(event.step, value.tag, _scalar(value))
    if not any(log.columns for log in recorder.logs):
        raise ReportError(f"{path} holds {events} events, but none of the metrics that verl or entropo_plugin log.")
    if not whole:
        recorder.notes.append(f"{path.name} ends within an event: the run is being written, or was interrupted.")
    return recorder.logs


def records(path: Path) -> Iterator[bytes | None]:
    """Each event's bytes; at last None where the file breaks off."""
    with opened(path) as file:
        while header := file.read(HEADER):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else -1
            body = file.read(length + FOOTER) if 0 <= length < LARGEST_EVENT else b""
            if len(body) != length + FOOTER or length < 0:
                yield None
                return
            yield body[:-FOOTER]


def _event_type() -> Any:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
    except ImportError as error:
        raise ReportError(
            f"Reading TensorBoard event files needs the package tensorboard ({error}): pip install tensorboard"
        ) from error
    return Event


def _parsed(event_type: Any, record: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return event_type.FromString(record)
    except DecodeError:
        return None


def _scalar(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    numbers = list(value.tensor.float_val) if kind == "tensor" else []
    return numbers[0] if len(numbers) == 1 else ""
