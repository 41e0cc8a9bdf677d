"""Writes the page: whole or not at all, and never over something that is not a page."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from entropo_plugin.report.files import ReportError, kind
from entropo_plugin.report.search import is_log, is_side_file


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over what the report reads, or in place of what is no file.

    Raises:
        ReportError: names the file and what to give instead.
    """
    if is_log(out) or is_side_file(out):
        raise ReportError(f"--out {out}: by its name it is a log; give a name that ends in .html.")
    replaceable(out)
    if out.exists() and any(path.exists() and path.samefile(out) for path in inputs):
        raise ReportError(f"--out {out}: the report is drawn from this file; give another name.")


def replaceable(path: Path) -> Path:
    """The path itself, where nothing lies there or a regular file.

    Raises:
        ReportError: a folder, a device, a pipe or the like lies there, or the system's own name of one.
    """
    if path.exists() and (what := kind(path.stat())):
        raise ReportError(f"{path} is {what}, which a report does not replace; give the name of a file.")
    if _is_the_systems(os.path.realpath(path.parent)):
        raise ReportError(f"{path} is a name of the system's, which a report does not replace; give that of a file.")
    return path


def _is_the_systems(folder: str) -> bool:
    """``/dev/stdout`` is a link that may lead to a file; root could put a page in its place."""
    system = any(folder == name or folder.startswith(f"{name}/") for name in ("/dev", "/proc", "/sys"))
    return system and not f"{folder}/".startswith("/dev/shm/")


def write_whole(path: Path, content: str) -> None:
    """Replace a file in one move, so that whoever reads it sees the old page or the new one and never half of one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name[:100]}.{uuid4().hex}.part")
        file = new.open("x", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}. Give another --out.") from None
    try:
        with file:
            file.write(content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
