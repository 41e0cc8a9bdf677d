"""Whether a file can be made in a folder, as far as this machine sees it."""

from __future__ import annotations

import os
import stat
import tempfile


def unknown_home(folder: str) -> str | None:
    """What is wrong with the beginning of a path, where it names a user's home; None where nothing is."""
    known = not folder.startswith("~") or os.path.expanduser(folder) != folder
    return None if known else f"there is no home folder {folder.split('/')[0]}"


def obstacle(folder: str) -> str | None:
    """Why no file can be made in ``folder``, which need not be there yet; None where nothing speaks against it."""
    if "\0" in folder:
        return "a path cannot hold a zero byte"
    try:
        too_long = [part for part in folder.split("/") if len(os.fsencode(part)) > 255]
        return f"{too_long[0][:40]}... is too long a name" if too_long else _nearest(os.path.abspath(folder))
    except UnicodeEncodeError:
        return "a path cannot hold these characters"
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"


def _nearest(path: str) -> str | None:
    """What is wrong with the folder, or with the nearest one above it that is there."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        above = os.path.dirname(path)
        # nothing of it can be seen from here: verl's task runner may be put on another node
        return None if os.path.dirname(above) == above else _nearest(above)
    if not stat.S_ISDIR(mode):
        return f"{path} is not a folder"
    try:
        # what the system says to root of /proc or a read-only disk is no answer; the file goes as it is closed
        with tempfile.TemporaryFile(dir=path):
            return None
    except OSError:
        return f"{path} cannot be written to"
