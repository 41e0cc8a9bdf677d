"""Reads TensorBoard event files, as verl's tensorboard logger writes them: one scalar an event."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.log import LARGEST_STEP, Recorder, time_of

# A record is its length (8 bytes), the length's checksum (4), the event, and the event's checksum (4).
HEADER, FOOTER = 12, 4
# Scalars take some hundred bytes; pictures and graphs, which others log, more.
LARGEST_EVENT = 2**26


def read_events(path: Path, recorder: Recorder) -> None:
    """All scalars of one event file, as far as it is whole.

    Raises:
        ReportError: tensorboard is missing.
    """
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.event_pb2 import Event
    except ImportError as error:
        raise ReportError(
            f"Reading TensorBoard event files needs the package tensorboard ({error}): pip install tensorboard"
        ) from error
    try:
        for event in map(Event.FromString, _records(path)):
            for value in event.summary.value if abs(event.step) < LARGEST_STEP else ():
                recorder.take(event.step, {value.tag: _scalar(value)}, time_of({"wall_time": event.wall_time}))
    except (ValueError, DecodeError):
        recorder.notes.append(f"{path.name} ends within an event: the run is being written, or was interrupted.")


def _records(path: Path) -> Iterator[bytes]:
    """Each event's bytes.

    Raises:
        ValueError: the file breaks off.
    """
    with opened(path) as file:
        while header := file.read(HEADER):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else LARGEST_EVENT
            body = file.read(length + FOOTER) if length < LARGEST_EVENT else b""
            if len(body) != length + FOOTER:
                raise ValueError(f"{path} ends within an event")
            yield body[:-FOOTER]


def _scalar(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    numbers = list(value.tensor.float_val) if kind == "tensor" else []
    return numbers[0] if len(numbers) == 1 else ""
