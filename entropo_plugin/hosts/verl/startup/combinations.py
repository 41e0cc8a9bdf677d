"""verl's own estimators and losses that would stop in the first step, refused at start-up with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from entropo_plugin.fields import ConfigError, shown
from entropo_plugin.hosts.verl.compat import fed_estimators
from entropo_plugin.hosts.verl.worker.policy_losses import NAME

LOSS = "actor_rollout_ref.actor.policy_loss"

# What verl 0.9.1's V1 trainers do not hand to an estimator (trainer_base.py:1745, ray_trainer.py:255-276).
UNFED = {
    "gdpo": "each reward component of a response",
    "remax": "reward_baselines, the rewards of greedy responses",
    "optimal_token_baseline": "sum_pi_squared",
    "tir_optimal_token_baseline": "sum_pi_squared",
}

# Settings of one loss of verl's, by the loss that alone reads them (core_algos.py of verl 0.9.1)
READERS = {
    "clip_cov_ratio": "clip_cov",
    "clip_cov_lb": "clip_cov",
    "clip_cov_ub": "clip_cov",
    "kl_cov_ratio": "kl_cov",
    "ppo_kl_coef": "kl_cov",
    "dro_beta": "dro",
}


def unread(config: Any, loss: str) -> Iterator[str]:
    """Settings of verl's losses that differ from their defaults, and that the loss in force does not read."""
    from verl.workers.config import PolicyLossConfig

    for name, reader in READERS.items():
        usual = getattr(PolicyLossConfig, name, None)
        value = OmegaConf.select(config, f"{LOSS}.{name}", default=usual)
        if loss != reader and value not in (usual, None):
            yield (
                f"{LOSS}.{name}={shown(value)}: only verl's own loss_mode={reader} reads it, and that does not run. "
                "The settings of our methods stand below entropo."
            )


def check_combination(config: Any) -> None:
    """Refuse an estimator that verl's V1 trainers cannot feed, and a policy loss that lacks a setting.

    Raises:
        ConfigError: names the key, the reason and what to set instead.
    """
    name = str(OmegaConf.select(config, "algorithm.adv_estimator"))
    loss = str(OmegaConf.select(config, f"{LOSS}.loss_mode", default="vanilla"))
    _check_fed(name, config)
    if loss == NAME:
        raise ConfigError(
            f"{LOSS}.loss_mode={NAME} is not a loss by itself. Delete it, and add +entropo=NAME for a method."
        )
    if loss == "dro" and not (OmegaConf.select(config, f"{LOSS}.dro_beta", default=None) or 0) > 0:
        raise ConfigError(f"{LOSS}.loss_mode=dro needs {LOSS}.dro_beta, a number above 0, and verl has no default.")


def _check_fed(name: str, config: Any) -> None:
    if name in UNFED and name not in fed_estimators():
        raise ConfigError(
            f"algorithm.adv_estimator={name} needs {UNFED[name]}, which verl's V1 trainers do not hand to an "
            "estimator: it would stop in the first step. Set another algorithm.adv_estimator, such as grpo or rloo."
        )
    critic = OmegaConf.select(config, "critic.enable", default=None)
    if name == "gae" and critic is not None and not critic:
        raise ConfigError(
            "algorithm.adv_estimator=gae needs a critic's values, but critic.enable=false. Set critic.enable=true "
            "(or null), or algorithm.adv_estimator=grpo."
        )
