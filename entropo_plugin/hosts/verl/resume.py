"""Where verl resumes from, found as verl finds it, and what it does not say: that it begins at step 0 instead."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from entropo_plugin.atomic import read_small
from entropo_plugin.config import ConfigError
from entropo_plugin.fields import shown

MARKER = "latest_checkpointed_iteration.txt"
ASYNC_SAVE = "actor_rollout_ref.actor.checkpoint.async_save"
STRATEGY = "actor_rollout_ref.actor.strategy"


def resumed_folder(config: Any) -> str | None:
    """The checkpoint folder that verl resumes from; None for a fresh start.

    Raises:
        ConfigError: verl's marker of the newest checkpoint holds no number, as a crash may leave it, or a path is none.
    """
    mode = config.trainer.resume_mode
    if mode == "disable":
        return None
    if mode == "resume_path":
        return os.path.abspath(_named(config))
    folder = _marked(_local(config))
    return folder if folder and os.path.exists(folder) else None


def resume_warnings(config: Any) -> list[str]:
    """For each reason why verl begins, or a later start will begin, at step 0 without a message: one sentence.

    What is not there may be out of sight only, where verl's task runner is put on another node; so none is an error.

    Raises:
        ConfigError: as :func:`resumed_folder`.
    """
    mode = config.trainer.resume_mode
    found = _never_marked(config)
    if mode == "resume_path" and not os.path.isdir(path := os.path.abspath(_named(config))):
        found.append(
            f"trainer.resume_from_path={path} is no folder on this machine: nothing can be resumed from it. Correct "
            "the path, or set trainer.resume_mode=auto or disable."
        )
    if mode not in ("resume_path", "disable"):
        found += _overlooked(_local(config))
    return found


def _named(config: Any) -> str:
    """``trainer.resume_from_path`` where verl can use it."""
    path = config.trainer.resume_from_path
    if not isinstance(path, str) or not re.search(r"global_step_\d+$", path) or "\0" in path:
        raise ConfigError(
            f"trainer.resume_from_path={shown(path)}: trainer.resume_mode=resume_path needs the path of a checkpoint, "
            "which ends in global_step_N. Set it, or set trainer.resume_mode=auto or disable."
        )
    return path


def _local(config: Any) -> Path:
    """``trainer.default_local_dir`` where verl can use it."""
    folder = config.trainer.default_local_dir
    if not isinstance(folder, str) or "\0" in folder:
        raise ConfigError(
            f"trainer.default_local_dir={shown(folder)}: verl looks there for a checkpoint to resume from, and needs a "
            "path. Set it to one (a number as ./20261125), or set trainer.resume_mode=disable."
        )
    return Path(os.path.abspath(folder))


def _marked(folder: Path) -> str | None:
    """The checkpoint that verl's marker names, there or not."""
    try:
        return str(folder / f"global_step_{int(read_small(folder / MARKER, 1000).decode())}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder / MARKER} holds no step ({error}), as a crash may leave it. Write the number of the newest whole "
            "global_step_N into it, or set trainer.resume_mode=resume_path and trainer.resume_from_path."
        ) from error


def _overlooked(folder: Path) -> list[str]:
    """Checkpoints that are there, or should be, and that ``trainer.resume_mode=auto`` passes over."""
    marked, newest = _marked(folder), _newest(folder)
    if (marked and os.path.exists(marked)) or (not marked and not newest):
        return []
    reason = (
        f"names {Path(marked).name}, which is not there"
        if marked
        else "is missing, after a crash while saving or with async_save"
    )
    choice = (
        f"set trainer.resume_mode=resume_path trainer.resume_from_path={newest}" if newest else "restore the folder"
    )
    return [
        f"{folder / MARKER} {reason}: verl begins at step 0 and overwrites what later steps have saved there. To "
        f"resume, {choice}; to start over, set trainer.resume_mode=disable or another trainer.default_local_dir."
    ]


def _newest(folder: Path) -> Path | None:
    """The checkpoint of the highest step in which verl has written its last file."""
    found = {int(path.name[12:]): path for path in folder.glob("global_step_*") if path.name[12:].isdecimal()}
    return next((found[step] for step in sorted(found, reverse=True) if (found[step] / "data.pt").exists()), None)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _never_marked(config: Any) -> list[str]:
    """verl leaves the marker of an asynchronous save to Megatron's checkpoint manager; others write none."""
    saves = OmegaConf.select(config, "trainer.save_freq", default=-1)
    strategy = OmegaConf.select(config, STRATEGY, default=None)
    if not OmegaConf.select(config, ASYNC_SAVE, default=False) or strategy == "megatron" or not _positive(saves):
        return []
    return [
        f"{ASYNC_SAVE}=true: with {STRATEGY}={strategy} verl writes no {MARKER}, so that the next start begins at step "
        f"0 instead of resuming. Set {ASYNC_SAVE}=false."
    ]
