"""The keys of verl's own that we read, and what they must be: a wrong one is refused here, and not in a worker."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from entropo_plugin.config import ConfigError
from entropo_plugin.fields import shown

ACTOR = "actor_rollout_ref.actor"
STEP_FOLDER = re.compile(r"global_step_[0-9]+/?$")
RESUME = ("resume_mode", "resume_from_path", "default_local_dir")
RESUME_MODES = ("auto", "disable", "resume_path")
COUNTS = (
    "data.train_batch_size",
    "data.max_response_length",
    f"{ACTOR}.ppo_mini_batch_size",
    f"{ACTOR}.ppo_epochs",
)
SWITCHES = (
    "trainer.use_v1",
    "algorithm.rollout_correction.bypass_mode",
    "distillation.enabled",
    f"{ACTOR}.calculate_entropy",
    f"{ACTOR}.entropy_from_logits_with_chunking",
    f"{ACTOR}.shuffle",
    "critic.enable",
)
NUMBERS = (
    f"{ACTOR}.clip_ratio",
    f"{ACTOR}.clip_ratio_low",
    f"{ACTOR}.clip_ratio_high",
    f"{ACTOR}.entropy_coeff",
    f"{ACTOR}.policy_loss.dro_beta",
)
NAMES = (
    "algorithm.adv_estimator",
    "trainer.v1.trainer_mode",
    "trainer.default_local_dir",
    f"{ACTOR}.policy_loss.loss_mode",
    f"{ACTOR}.strategy",
    "actor_rollout_ref.rollout.name",
)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 <= value <= 1e9


def _count(least: int) -> Callable[[Any], bool]:
    return lambda value: _number(value) and isinstance(value, int) and value >= least


GROUPS = ("trainer", "trainer.v1", "data", "algorithm", ACTOR, f"{ACTOR}.policy_loss", "actor_rollout_ref.rollout")
KINDS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (GROUPS, lambda value: isinstance(value, Mapping), "a group of keys"),
    (COUNTS, _count(1), "a whole number, at least 1"),
    (("trainer.critic_warmup",), _count(0), "a whole number, at least 0"),
    (SWITCHES, lambda value: isinstance(value, bool), "true or false"),
    (NUMBERS, _number, "a finite number"),
    (NAMES, lambda value: isinstance(value, str), "a name"),
    (("trainer.resume_mode",), lambda value: value in RESUME_MODES, f"one of {' | '.join(RESUME_MODES)}"),
)


def check(config: Any, get: Callable[..., Any]) -> None:
    """Refuse what verl itself would trip over later, or silently read as something else; null stays verl's business.

    Args:
        config: a whole verl configuration.
        get: reads a dotted path of it.

    Raises:
        ConfigError: names the key, its value and what it must be.
    """
    for paths, fits, words in KINDS:
        for path in paths:
            value = get(config, path)
            if value is not None and not fits(value):
                raise ConfigError(f"{path}={shown(value)}: expected {words}. Set {path}.")
    _check_registered(config, get)
    _check_resume(*(get(config, f"trainer.{name}") for name in RESUME))


def _check_registered(config: Any, get: Callable[..., Any]) -> None:
    """verl looks a policy loss up in its workers only; one that an external library brings is known there."""
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    name, path = get(config, f"{ACTOR}.policy_loss.loss_mode", "vanilla"), f"{ACTOR}.policy_loss.loss_mode"
    if name not in POLICY_LOSS_REGISTRY and not get(config, "actor_rollout_ref.model.external_lib"):
        known = " | ".join(sorted(POLICY_LOSS_REGISTRY))
        raise ConfigError(f"{path}={shown(name)}: verl knows no such loss. Set {path} to one of {known}.")


def _check_resume(mode: Any, path: Any, folder: Any) -> None:
    if mode is None or folder is None:
        name = "resume_mode" if mode is None else "default_local_dir"
        raise ConfigError(f"trainer.{name} is not set: nobody knows where to resume from. Set trainer.{name}.")
    if mode == "resume_path" and not (isinstance(path, str) and STEP_FOLDER.search(path)):
        raise ConfigError(
            f"trainer.resume_from_path={shown(path)}: trainer.resume_mode=resume_path needs the folder of a "
            "checkpoint, named global_step_N."
        )
