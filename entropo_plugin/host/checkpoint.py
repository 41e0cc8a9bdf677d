"""``global_step_N/entropo_state.json``: written whole or not at all, read without executing anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from entropo_plugin.config import ConfigError

NAME = "entropo_state.json"


def write_state(folder: str | Path, state: dict[str, Any]) -> Path:
    """Write the state so that a crash at any instant leaves either the old file or the new one."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / NAME, folder / f"{NAME}.partial"
    with open(partial, "w") as file:
        json.dump(state, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync_folder(folder)
    return path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_state(folder: str | Path) -> dict[str, Any] | None:
    """The state in a checkpoint folder, or None when it holds none.

    Raises:
        ConfigError: the file is not a JSON object.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not readable as JSON ({error}). Delete it to start the controller anew."
        ) from error
    if not isinstance(state, dict):
        raise ConfigError(
            f"{path} holds a {type(state).__name__}, not an object. Delete it to start the controller anew."
        )
    return state


def resumed_folder(config: Any) -> str | None:
    """The checkpoint folder that verl resumes from, found as verl finds it; None for a fresh start."""
    trainer = config.trainer
    if trainer.resume_mode == "disable":
        return None
    if trainer.resume_mode == "resume_path":
        return os.path.abspath(trainer.resume_from_path)
    from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

    return find_latest_ckpt_path(os.path.abspath(trainer.default_local_dir))


class StateCallback:
    """Our state through verl's own checkpoint events, where it has them; the user's callback keeps all of its own."""

    def __init__(self, users: Any, trainer: Any):
        self.users, self.trainer = users, trainer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.users, name)

    def on_before_save(self, **event: Any) -> None:
        """Before verl writes its marker: a checkpoint that can be resumed from always has our state."""
        self.trainer.write_entropo_state(event["checkpoint_dir"])
        self.users.on_before_save(**event)

    def on_load(self, **event: Any) -> None:
        """After verl has restored its own state."""
        self.trainer.read_entropo_state(event["checkpoint_dir"])
        self.users.on_load(**event)
