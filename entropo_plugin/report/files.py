"""Opens what a user named: regular files of a sensible size, so that nothing hangs and nothing fills the memory."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LARGEST_LOG = 8 * 10**9
# verl logs some 150 metrics a step: 6 KB.
LONGEST_LINE = 4 * 10**6
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class ReportError(Exception):
    """Input that cannot be drawn. Every argument is one line that names it and says what to give instead."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


@contextmanager
def opened(path: Path, most: int = LARGEST_LOG) -> Iterator[BinaryIO]:
    """A regular file of at most ``most`` bytes, to read.

    Raises:
        ReportError: it is something else, or larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer does not hang
    try:
        _check(path, os.fstat(descriptor), most)
    except ReportError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[misc]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ReportError(f"{path} is no whole gzip file: {error}.") from error


def _check(path: Path, state: os.stat_result, most: int) -> None:
    if kind(state):
        raise ReportError(f"{path} is {kind(state)}: only regular files are read.")
    if state.st_size > most:
        raise ReportError(f"{path} has {state.st_size / 1e6:.0f} MB: at most {most / 1e6:.0f} MB are read.")


def kind(state: os.stat_result) -> str:
    """What a path is that is no regular file, in words; nothing for a plain file, with an end."""
    return "" if stat.S_ISREG(state.st_mode) else KINDS.get(stat.S_IFMT(state.st_mode), "no regular file")


def lines(file: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """Each line; of one that is longer than any record only the beginning, which is no JSON."""
    total = 0
    while line := file.readline(longest):
        total += len(line)
        if total > LARGEST_LOG:
            raise ReportError(f"A packed log has more than {LARGEST_LOG / 1e6:.0f} MB: no more are read.")
        if len(line) == longest and not line.endswith(b"\n"):
            rest = b"..."
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(longest)
            line = line[:100] + rest[-1:]
        yield line
