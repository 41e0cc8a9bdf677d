"""Draws again whenever a log has grown, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from entropo_plugin.report.search import inputs

Stamp = list[tuple[str, int, int]]


class Ended(BaseException):
    """A signal asked for the end; like KeyboardInterrupt, nothing that catches errors catches it.

    Args:
        number: the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def watch(draw: Callable[[float | None], object], paths: list[str], every: float) -> int:
    """Draw whenever a log has changed; at the end once more, as a page that no longer reloads.

    Returns:
        0 after Ctrl-C, which is how one ends it; 128 + signal after another.
    """
    seen: Stamp | None = None
    with ending():
        try:
            while True:
                now = stamp(paths)
                if now != seen:
                    seen = now
                    draw(every)
                time.sleep(every)
        except Ended as end:
            draw(None)
            return 0 if end.number == signal.SIGINT else 128 + end.number


@contextmanager
def ending() -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM raises Ended and others are ignored; the handlers before come back.

    A shell starts what a script puts into the background with SIGINT ignored, which would leave no way to end it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


def stamp(paths: list[str]) -> Stamp:
    """Sizes and times of all files that the runs are read from; the page itself is none of them."""
    stamps = []
    for file in {file for path in paths for file in inputs(Path(path))}:
        try:
            state = file.stat()
        except OSError:
            continue
        stamps.append((str(file), state.st_size, state.st_mtime_ns))
    return sorted(stamps)
