"""What the methods may know of a verl training, in terms that no host owns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entropo_plugin.fields import shown
from entropo_plugin.hosts.verl.startup.verl_keys import updates_per_batch
from entropo_plugin.methods.base import Host

ACTOR = "actor_rollout_ref.actor"
BYPASS = "algorithm.rollout_correction.bypass_mode"
STRATEGY = f"{ACTOR}.strategy"

# verl's losses in which a token's advantage reaches other tokens, or in which one without advantage still counts
MIXES = {"geo_mean": "gives every token of a response the mean of its advantages"}
KEEPS = {
    "dro": "keeps its quadratic penalty on a token without advantage",
    "kl_cov": "keeps its penalty on a token without advantage",
}

Get = Callable[..., Any]


def host_of(config: Any, get: Get) -> Host:
    """The facts of one configuration.

    Args:
        config: a whole verl configuration.
        get: reads a dotted path of it.
    """
    loss = str(get(config, f"{ACTOR}.policy_loss.loss_mode", "vanilla"))
    return Host(
        name="verl",
        estimator=str(get(config, "algorithm.adv_estimator")),
        loss_mode=loss,
        updates=_updates(config, get),
        group_size=get(config, "actor_rollout_ref.rollout.n", 1) or 1,
        entropy_coeff=float(get(config, f"{ACTOR}.entropy_coeff", 0.0) or 0.0),
        loss_agg_mode=str(get(config, f"{ACTOR}.loss_agg_mode", "token-mean")),
        clip=_clip(config, get),
        clip_set=_clip_set(config, get),
        shuffles=bool(get(config, f"{ACTOR}.shuffle", False)),
        mixes=MIXES.get(loss, ""),
        keeps=KEEPS.get(loss, ""),
        fields=_fields(config, get),
        remedies=REMEDIES,
    )


def vocabulary(config: Any, get: Get) -> int | None:
    """Size of the model's vocabulary, where its ``config.json`` lies on this machine's disk."""
    try:
        about = json.loads(Path(str(get(config, "actor_rollout_ref.model.path")), "config.json").read_text())
        return int(about.get("text_config", about)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _clip(config: Any, get: Get) -> tuple[float, float, float]:
    """The bounds of verl's vanilla loss."""
    ratio = get(config, f"{ACTOR}.clip_ratio", 0.2)
    low, high = (get(config, f"{ACTOR}.{name}") for name in ("clip_ratio_low", "clip_ratio_high"))
    dual = get(config, f"{ACTOR}.clip_ratio_c", 3.0)
    return ratio if low is None else low, ratio if high is None else high, dual


# By side: verl's key, the one that stands in where it is null, and their default in verl 0.9.1's actor.yaml.
CLIPS = {
    "low": ("clip_ratio_low", "clip_ratio", 0.2),
    "high": ("clip_ratio_high", "clip_ratio", 0.2),
    "dual": ("clip_ratio_c", "clip_ratio_c", 3.0),
}


def _clip_set(config: Any, get: Get) -> dict[str, str]:
    """The settings of verl's clip that are not its defaults."""
    changed: dict[str, str] = {}
    for side, (own, stand_in, usual) in CLIPS.items():
        name = stand_in if get(config, f"{ACTOR}.{own}") is None else own
        value = get(config, f"{ACTOR}.{name}")
        if value not in (usual, None):
            changed[side] = f"{ACTOR}.{name}={shown(value)}"
    return changed


def _updates(config: Any, get: Get) -> int:
    """Optimizer steps per rollout batch, as verl counts them."""
    paths = (f"{ACTOR}.ppo_epochs", "data.train_batch_size", f"{ACTOR}.ppo_mini_batch_size")
    epochs, batch, mini = (get(config, path) or 1 for path in paths)
    enabled = get(config, "critic.enable")
    has_critic = get(config, "algorithm.adv_estimator") == "gae" if enabled is None else enabled
    critic = get(config, "critic.ppo_mini_batch_size") if has_critic else None
    return updates_per_batch(batch, mini, epochs, critic)


def _fields(config: Any, get: Get) -> frozenset[str]:
    has = {"reward"}
    if not get(config, BYPASS, False):
        has.add("entropy")
    if get(config, f"{ACTOR}.calculate_entropy", False) or get(config, f"{ACTOR}.entropy_coeff", 0):
        has.add("current_entropy")
    if get(config, f"{ACTOR}.use_kl_loss", False) or get(config, "algorithm.use_kl_in_reward", False):
        has.add("ref_log_prob")
    return frozenset(has)


REMEDIES = {
    "entropy": f"{BYPASS}=true: verl then recomputes no log-probs and no entropy. Set {BYPASS}=false, or a law that "
    "follows no entropy (law=fixed) where there is one.",
    "current_entropy": f"Set {ACTOR}.calculate_entropy=true.",
    "ref_log_prob": f"Set {ACTOR}.use_kl_loss=true ({ACTOR}.kl_loss_coef=0 leaves the loss as it is).",
    "updates": f"Set {ACTOR}.ppo_mini_batch_size below data.train_batch_size.",
    "shuffles": f"Set {ACTOR}.shuffle=false.",
    "group_size": "Set actor_rollout_ref.rollout.n to 2 or more.",
    "more_responses": "Or raise actor_rollout_ref.rollout.n.",
}
