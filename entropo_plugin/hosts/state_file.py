"""``entropo_state.json`` in a checkpoint folder: written whole or not at all, read without executing anything."""

from __future__ import annotations

import errno
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entropo_plugin.atomic import read_small, replacing
from entropo_plugin.fields import ConfigError

if TYPE_CHECKING:
    from entropo_plugin.run import Run

logger = logging.getLogger("entropo_plugin")

NAME = "entropo_state.json"
REMEDY = "Restore the file, or set entropo.resume=reset to restart the controller at this checkpoint."
# A state has some kilobytes.
MOST = 16 << 20


def write_state(folder: str | Path, state: dict[str, Any]) -> Path:
    """Write the state so that a crash at any instant leaves either the old file or the new one.

    Raises:
        OSError: it cannot be written, for example because the disk is full; the old file is whole.
        ValueError, TypeError, RecursionError: it holds what JSON does not know.
    """
    text = json.dumps(state, indent=1, allow_nan=False)
    path = Path(folder) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())
    return path


def save_state(folder: str | Path, state: dict[str, Any], host: str = "verl") -> bool:
    """As :func:`write_state`, but every failure is a warning: the host's own checkpoint is worth more than ours."""
    try:
        write_state(folder, state)
    except Exception as error:
        logger.warning(
            "entropo_plugin: %s/%s was not written (%s). %s's checkpoint goes on without it; resumed from there, the "
            "controller continues from an older state of that folder or from its first value. %s",
            folder,
            NAME,
            error if isinstance(error, OSError) else f"{type(error).__name__}: {error}",
            host,
            _remedy(error),
        )
        return False
    return True


def _remedy(error: Exception) -> str:
    if not isinstance(error, OSError):
        return "Please report it."
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "Free some space there." if full else "Make a folder there that can be written to."


def read_state(folder: str | Path) -> dict[str, Any] | None:
    """The state in a checkpoint folder, or None when it holds none.

    Raises:
        ConfigError: the file cannot be read, or is not a JSON object of finite numbers.
    """
    path = Path(folder) / NAME
    try:
        state = json.loads(read_small(path, MOST).decode(), parse_constant=_refuse)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path} is not readable as JSON ({error}). {REMEDY}") from error
    if not isinstance(state, dict):
        raise ConfigError(f"{path} holds a {type(state).__name__}, not an object. {REMEDY}")
    return state


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a finite number")


def restore(run: Run, folder: str | Path) -> None:
    """Continue ``run`` from a checkpoint folder; without a state, warn and start from the first value.

    Raises:
        ConfigError: the state is damaged or another run's, unless ``entropo.resume=reset``.
    """
    state = saved_state(run, folder)
    if state is not None:
        take_state(run, folder, state)


def saved_state(run: Run, folder: str | Path) -> dict[str, Any] | None:
    """The state in a checkpoint folder; None where the controller starts from its first value, which is said.

    Raises:
        ConfigError: the state is damaged, unless ``entropo.resume=reset``.
    """
    try:
        state = read_state(folder)
    except ConfigError as error:
        if run.settings.resume == "strict":
            raise
        logger.warning("entropo_plugin: %s The controller starts from its first value.", error)
        return None
    if state is None:
        logger.warning("entropo_plugin: %s has no %s; the controller starts from its first value.", folder, NAME)
    return state


def take_state(run: Run, folder: str | Path, state: dict[str, Any]) -> None:
    """Continue ``run`` from the state of a checkpoint folder.

    Raises:
        ConfigError: it is another run's, unless ``entropo.resume=reset``.
    """
    run.load_state_dict(state, str(Path(folder) / NAME), _step_of(folder))


def _step_of(folder: str | Path) -> int | None:
    """N of verl's ``global_step_N`` or TRL's ``checkpoint-N``; None under another name."""
    found = re.fullmatch(r"(?:global_step_|checkpoint-)(\d+)", Path(folder).name)
    return int(found[1]) if found else None
