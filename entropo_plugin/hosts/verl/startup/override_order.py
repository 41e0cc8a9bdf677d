"""What overrides a choice ``+entropo=NAME``, and what to do: mostly a line that stands too early in a defaults list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from entropo_plugin.config import TRAINER_MODES
from entropo_plugin.fields import plain
from entropo_plugin.recipe_files import choices

STOCK_MODES = ("sync", "colocate_async", "separate_async")
# What +entropo=NAME always brings along, and nobody writes by hand.
BROUGHT = {"methods", "chosen", "idle_steps", "nan_reward", "resume", "monitor", "target"}


def wrong_mode(mode: str, asked: str, settings: Any, node: Any) -> str:
    """Why a run of ours cannot have this trainer mode, and what to set.

    Args:
        asked: what of ours is asked for, for messages.
        node: the node ``entropo:`` as the configuration has it.
    """
    wanted = f"entropo_{mode}" if mode in STOCK_MODES else TRAINER_MODES[0]
    setting = f"trainer.v1.trainer_mode={wanted}"
    allowed = f"(allowed: {', '.join(TRAINER_MODES)})"
    if not (OmegaConf.is_dict(node) and set(node) >= BROUGHT):
        choice = "monitor" if settings.methods else "NAME"
        asked = f"entropo.methods=[{','.join(settings.methods)}]" if settings.methods else asked
        return (
            f"{asked} needs our trainer, but trainer.v1.trainer_mode={mode}. Set {setting} {allowed}, or use "
            f"+entropo={choice}, which sets it."
        )
    name = next(iter(_names(settings)), "monitor")
    remedy = "delete trainer.v1.trainer_mode=sync" if mode == "sync" else f"set {setting} {allowed}"
    return (
        f"trainer.v1.trainer_mode={mode} overrides what entropo={name} sets. On the command line, {remedy}. "
        f"{_move(name)}"
    )


def _move(name: str) -> str:
    return (
        f"In a YAML of your own, move the line `- entropo: {name}` below ppo_trainer in its defaults list: what "
        "stands above it is overridden, the method's other settings too."
    )


def _names(settings: Any) -> list[str]:
    return [name for name, wanted in settings.chosen.items() if wanted]


def overridden(config: Any, settings: Any) -> Iterator[str]:
    """A choice of which nothing of verl's own keys is left: so it looks where its line stands too early."""
    files = choices()
    for name in _names(settings):
        path = files.get(f"entropo={name}")
        wanted = {} if path is None else dict(_leaves(OmegaConf.load(path)))
        present = {key: OmegaConf.select(config, key) for key in wanted}
        if len(wanted) > 1 and all(present[key] != value for key, value in wanted.items()):
            kept = " and ".join(f"{key}={plain(value)}" for key, value in wanted.items())
            now = " and ".join(plain(value) for value in present.values())
            yield f"entropo={name} sets {kept}, and here they are {now}. If that is not your choice: {_move(name)}"


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """verl's own keys of a choice, and their values."""
    for name, value in node.items():
        below = f"{path}{name}"
        if OmegaConf.is_dict(value) and below not in ("entropo", "trainer"):
            yield from _leaves(value, f"{below}.")
        elif not OmegaConf.is_config(value):
            yield below, value
