"""The keys of verl's own that we read, and what they must be: a wrong one is refused here, and not in a worker."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf

from entropo_plugin.config import ConfigError
from entropo_plugin.fields import LARGEST, shown

ACTOR = "actor_rollout_ref.actor"
# verl reads the number to the end of the path: a slash behind it stops the training (trainer_base.py:876).
STEP_FOLDER = re.compile(r"global_step_[0-9]+$")
RESUME = ("resume_mode", "resume_from_path", "default_local_dir", "save_freq")
RESUME_MODES = ("auto", "disable", "resume_path")
COUNTS = (
    "data.train_batch_size",
    "data.max_response_length",
    f"{ACTOR}.ppo_mini_batch_size",
    f"{ACTOR}.ppo_epochs",
    "actor_rollout_ref.rollout.n",
    "critic.ppo_mini_batch_size",
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
# Infinity switches a side of the clip off.
CLIPS = (
    f"{ACTOR}.clip_ratio",
    f"{ACTOR}.clip_ratio_low",
    f"{ACTOR}.clip_ratio_high",
    f"{ACTOR}.clip_ratio_c",
)
NUMBERS = (
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
    """A number and no NaN; ``math.isnan`` fails on integers of more than 308 digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _finite(value: Any) -> bool:
    return _number(value) and abs(value) < LARGEST


def _count(value: Any) -> bool:
    return _finite(value) and isinstance(value, int) and value >= 1


def _loggers(value: Any) -> bool:
    return isinstance(value, str) or (OmegaConf.is_list(value) and all(isinstance(name, str) for name in value))


def _switch(value: Any) -> bool:
    """verl asks only whether it is true; a text always is, also "false"."""
    return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))


GROUPS = ("trainer", "trainer.v1", "data", "algorithm", ACTOR, f"{ACTOR}.policy_loss", "actor_rollout_ref.rollout")
KINDS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (GROUPS, lambda value: isinstance(value, Mapping), "a group of keys"),
    (COUNTS, _count, "a whole number, at least 1"),
    (("trainer.critic_warmup", *CLIPS), _number, "a number"),
    (SWITCHES, _switch, "true or false"),
    (NUMBERS, _finite, "a finite number"),
    (NAMES, lambda value: isinstance(value, str), "a name"),
    (("trainer.logger",), _loggers, "a name or a list of names"),
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
                raise ConfigError(f"{path}={as_written(config, path, value)}: expected {words}. Set {path}.")
    _check_registered(config, get)
    _check_resume(config, *(get(config, f"trainer.{name}") for name in RESUME))
    _check_file_logger(config, get)


def as_written(config: Any, path: str, value: Any) -> str:
    """The value at ``path`` for a message: an interpolation stays one, because it may resolve to a secret."""
    node = config
    for name in path.split("."):
        if not OmegaConf.is_dict(node) or name not in node:
            break
        if OmegaConf.is_interpolation(node, name):
            return str(OmegaConf.to_container(node, resolve=False)[name])  # type: ignore[index, call-overload]
        node = node[name]
    return shown(value)


def _check_registered(config: Any, get: Callable[..., Any]) -> None:
    """verl looks a policy loss up in its workers only; one that an external library brings is known there."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    estimator, where = get(config, "algorithm.adv_estimator"), "algorithm.adv_estimator"
    if estimator not in ADV_ESTIMATOR_REGISTRY and not get(config, "actor_rollout_ref.model.external_lib"):
        known = " | ".join(sorted(map(str, ADV_ESTIMATOR_REGISTRY)))
        raise ConfigError(
            f"{where}={as_written(config, where, estimator)}: verl knows no such estimator. "
            f"Set {where} to one of {known}."
        )
    name, path = get(config, f"{ACTOR}.policy_loss.loss_mode", "vanilla"), f"{ACTOR}.policy_loss.loss_mode"
    if name not in POLICY_LOSS_REGISTRY and not get(config, "actor_rollout_ref.model.external_lib"):
        known = " | ".join(sorted(POLICY_LOSS_REGISTRY))
        raise ConfigError(
            f"{path}={as_written(config, path, name)}: verl knows no such loss. Set {path} to one of {known}."
        )


def _check_resume(config: Any, mode: Any, path: Any, folder: Any, save_freq: Any) -> None:
    needs_folder = mode == "auto" or (_number(save_freq) and save_freq > 0)
    if mode is None or (folder is None and needs_folder):
        name = "resume_mode" if mode is None else "default_local_dir"
        raise ConfigError(f"trainer.{name} is not set: there is nothing to resume from. Set trainer.{name}.")
    if mode == "resume_path" and not (isinstance(path, str) and STEP_FOLDER.search(path)):
        raise ConfigError(
            f"trainer.resume_from_path={as_written(config, 'trainer.resume_from_path', path)}: "
            "trainer.resume_mode=resume_path needs the folder of a checkpoint, named global_step_N, without a slash "
            "behind it."
        )


def _check_file_logger(config: Any, get: Callable[..., Any]) -> None:
    """A number is text to verl in a run's names, except where its file logger makes a path of the project's."""
    project, loggers = get(config, "trainer.project_name", ""), get(config, "trainer.logger") or []
    writes = "file" in ([loggers] if isinstance(loggers, str) else loggers)
    if writes and not isinstance(project, str) and not os.environ.get("VERL_FILE_LOGGER_PATH"):
        raise ConfigError(
            f"trainer.project_name={shown(project)} is no text, which verl's file logger needs. "
            f"""Set 'trainer.project_name="{project}"', with both kinds of quotes."""
        )


def updates_per_batch(prompts: int, mini: int, epochs: int = 1, critic_mini: int | None = None) -> int:
    """Optimizer steps that the actor takes on one rollout batch, as verl 0.9.1 cuts it.

    verl appends rows of padding until the batch is a multiple of the actor's mini-batch, and where a critic trains of
    the critic's too (``upsample_batch_to_divisible_size`` in trainer/ppo/padding_utils.py, called by
    ``PPOTrainer._balance_batch`` with ``_get_required_batch_multiple``): 100 prompts in mini-batches of 60 are 2 steps,
    not 1. The responses to a prompt multiply all three sizes alike; the number of ranks divides a mini-batch, or verl
    stops.

    Args:
        prompts: ``data.train_batch_size``.
        mini: ``actor_rollout_ref.actor.ppo_mini_batch_size``, in prompts.
        epochs: ``actor_rollout_ref.actor.ppo_epochs``.
        critic_mini: ``critic.ppo_mini_batch_size`` of a run with a critic, otherwise None.
    """
    multiple = math.lcm(mini, critic_mini or mini)
    return epochs * (-(-prompts // multiple) * multiple // mini)
