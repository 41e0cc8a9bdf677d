"""Pairs of an estimator and a policy loss that cannot work, refused at start-up with the reason."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from entropo_plugin.config import ESTIMATORS, ConfigError
from entropo_plugin.hosts.verl.compat import fed_estimators

LOSS = "actor_rollout_ref.actor.policy_loss"

# What verl 0.9.1's V1 trainers do not hand to an estimator (trainer_base.py:1745, ray_trainer.py:255-276).
UNFED = {
    "gdpo": "each reward component of a response",
    "remax": "reward_baselines, the rewards of greedy responses",
    "optimal_token_baseline": "sum_pi_squared",
    "tir_optimal_token_baseline": "sum_pi_squared",
}


def check_combination(config: Any) -> None:
    """Refuse an estimator that verl's V1 trainers cannot feed, and a policy loss that undoes the estimator.

    Raises:
        ConfigError: names both keys, the reason and what to set instead.
    """
    name = str(OmegaConf.select(config, "algorithm.adv_estimator"))
    loss = str(OmegaConf.select(config, f"{LOSS}.loss_mode", default="vanilla"))
    _check_fed(name, config)
    if loss == "geo_mean" and name in ESTIMATORS:
        raise ConfigError(
            f"{LOSS}.loss_mode=geo_mean gives every token of a response the mean of its advantages, which undoes what "
            f"algorithm.adv_estimator={name} does to single tokens. Set another loss_mode, such as vanilla, gspo or "
            "adapo, or an estimator of verl's."
        )
    if loss == "dro" and not (OmegaConf.select(config, f"{LOSS}.dro_beta", default=None) or 0) > 0:
        raise ConfigError(f"{LOSS}.loss_mode=dro needs {LOSS}.dro_beta, a number above 0, and verl has no default.")


def _check_fed(name: str, config: Any) -> None:
    if name in UNFED and name not in fed_estimators():
        raise ConfigError(
            f"algorithm.adv_estimator={name} needs {UNFED[name]}, which verl's V1 trainers do not hand to an "
            "estimator: it would stop in the first step. Set another algorithm.adv_estimator, such as grpo or rloo."
        )
    if name == "gae" and OmegaConf.select(config, "critic.enable", default=None) is False:
        raise ConfigError(
            "algorithm.adv_estimator=gae needs a critic's values, but critic.enable=false. Set critic.enable=true "
            "(or null), or algorithm.adv_estimator=grpo."
        )
