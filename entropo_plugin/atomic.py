"""Files that neither a crash, a second writer nor a full disk leaves half-written, read only where they are files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place, and the mode, of ``path`` when the block ends well; else nothing has changed.

    Raises:
        OSError: it cannot be written, or something other than a file is in its place.
    """
    mode = _mode(path)
    partial, descriptor = _create_beside(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            if mode is not None:
                with suppress(OSError):  # a file system without modes
                    os.fchmod(descriptor, mode)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def append_whole(path: Path, data: bytes) -> None:
    """Add ``data`` to a file, all of it or nothing.

    Raises:
        OSError: it cannot be written, or ``path`` is not a regular file.
    """
    descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        size, written = os.fstat(descriptor).st_size, 0
        try:
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
        except OSError:
            # no half of a line, unless a second writer has added to it
            if os.fstat(descriptor).st_size == size + written:
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def read_small(path: Path, most: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than ``most`` bytes.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else b""
        if len(data) > most or (not data and os.fstat(file.fileno()).st_size):
            raise OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
    return data


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file; anything else is refused at once, where a FIFO would wait for its other end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    # O_NONBLOCK changes nothing for a regular file
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def _mode(path: Path) -> int | None:
    """The permissions of the file that is replaced; None for a new one, which gets those of the umask."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return stat.S_IMODE(mode)


def _create_beside(path: Path) -> tuple[Path, int]:
    """As mkstemp, which does not honour the umask: a name that nobody has foreseen, and that is never followed."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    return partial, os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
