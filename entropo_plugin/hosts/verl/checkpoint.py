"""``global_step_N/entropo_state.json``: written whole or not at all, read without executing anything."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entropo_plugin.config import ConfigError

if TYPE_CHECKING:
    from entropo_plugin.hosts.verl.run import Run

logger = logging.getLogger("entropo_plugin")

NAME = "entropo_state.json"
REMEDY = "Restore the file, or set entropo.resume=reset to start the controller anew from this checkpoint."


def write_state(folder: str | Path, state: dict[str, Any]) -> Path:
    """Write the state so that a crash at any instant leaves either the old file or the new one.

    Raises:
        OSError: it cannot be written, for example because the disk is full; the old file is whole.
        ValueError: it holds what JSON does not know.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / NAME, folder / f"{NAME}.partial"
    try:
        with open(partial, "w") as file:
            json.dump(state, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, ValueError):
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    return path


def save_state(folder: str | Path, state: dict[str, Any]) -> bool:
    """As :func:`write_state`, but a failure is a warning: verl's own checkpoint is worth more than ours."""
    try:
        write_state(folder, state)
    except (OSError, ValueError) as error:
        logger.warning(
            "entropo_plugin: %s was not written (%s). verl's checkpoint goes on without it; resumed from there, the "
            "controller continues from an older state of that folder or starts anew. Free some space there.",
            Path(folder) / NAME,
            error,
        )
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_state(folder: str | Path) -> dict[str, Any] | None:
    """The state in a checkpoint folder, or None when it holds none.

    Raises:
        ConfigError: the file cannot be read, or is not a JSON object of finite numbers.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable as JSON ({error}). {REMEDY}") from error
    if not isinstance(state, dict):
        raise ConfigError(f"{path} holds a {type(state).__name__}, not an object. {REMEDY}")
    return state


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a finite number")


def restore(run: Run, folder: str | Path) -> None:
    """Continue ``run`` from a checkpoint folder; one without a state is said and starts the controller anew.

    Raises:
        ConfigError: the state is damaged or another run's, unless ``entropo.resume=reset``.
    """
    path = Path(folder) / NAME
    try:
        state = read_state(folder)
    except ConfigError as error:
        if run.plan.settings.resume == "strict":
            raise
        logger.warning("entropo_plugin: %s The controller starts anew.", error)
        return
    if state is None:
        logger.warning("entropo_plugin: %s has no %s; the controller starts anew.", folder, NAME)
    else:
        run.load_state_dict(state, str(path), _step_of(folder))


def _step_of(folder: str | Path) -> int | None:
    """N of ``global_step_N``, as verl reads it; None under another name."""
    found = re.fullmatch(r"global_step_(\d+)", Path(folder).name)
    return int(found[1]) if found else None


def resumed_folder(config: Any) -> str | None:
    """The checkpoint folder that verl resumes from, found as verl finds it; None for a fresh start.

    Raises:
        ConfigError: verl's marker of the newest checkpoint holds no number, as a crash may leave it.
    """
    trainer = config.trainer
    if trainer.resume_mode == "disable":
        return None
    if trainer.resume_mode == "resume_path":
        return os.path.abspath(trainer.resume_from_path)
    from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path, get_checkpoint_tracker_filename

    folder = os.path.abspath(trainer.default_local_dir)
    try:
        return find_latest_ckpt_path(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{get_checkpoint_tracker_filename(folder)} holds no step ({error}), as a crash may leave it. Write the "
            "number of the newest whole global_step_N into it, or set trainer.resume_mode=resume_path and "
            "trainer.resume_from_path."
        ) from error


class StateCallback:
    """Our state through verl's own checkpoint events, where it has them; the user's callback keeps all of its own."""

    def __init__(self, users: Any, run: Run):
        self.users, self.run = users, run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.users, name)

    def on_before_save(self, **event: Any) -> None:
        """Before verl writes its marker: a checkpoint that can be resumed from always has our state."""
        save_state(event["checkpoint_dir"], self.run.state_dict(event["global_step"]))
        self.users.on_before_save(**event)

    def on_load(self, **event: Any) -> None:
        """After verl has restored its own state."""
        restore(self.run, event["checkpoint_dir"])
        self.users.on_load(**event)
