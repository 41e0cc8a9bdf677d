"""Draws again whenever a log has grown, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

from entropo_plugin.report.search import inputs

Stamp = list[tuple[str, int, int]]


def watch(draw: Callable[[float | None], object], paths: list[str], every: float) -> int:
    """Draw whenever a log has changed; at the end once more, as a page that no longer reloads.

    The first SIGINT or SIGTERM ends it, also where a shell has started it in the background, with SIGINT ignored;
    another one is passed over. The handlers before come back.

    Returns:
        0 after Ctrl-C, which is how one ends it; 128 + signal after another.
    """
    got: SimpleQueue[int] = SimpleQueue()  # whose put a handler may call at any time
    before = {each: signal.signal(each, lambda number, _: got.put(number)) for each in (signal.SIGINT, signal.SIGTERM)}
    seen: Stamp | None = None
    try:
        while (number := _wait(got, 0 if seen is None else every)) is None:
            now = stamp(paths)
            if now != seen:
                seen = now
                draw(every)
        draw(None)
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
    return 0 if number == signal.SIGINT else 128 + number


def _wait(got: SimpleQueue[int], seconds: float) -> int | None:
    """The first signal, or None where none comes."""
    try:
        return got.get(timeout=seconds)
    except Empty:
        return None


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
