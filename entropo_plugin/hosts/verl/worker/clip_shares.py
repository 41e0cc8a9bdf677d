"""How many tokens lie beyond the clip of the policy loss, by side and by the advantage's sign, for every loss."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.utils.metric import AggregationType, Metric

from entropo_plugin.hosts.verl.worker.late_metric import LateMetric
from entropo_plugin.hosts.verl.worker.layout import padded, responses_of
from entropo_plugin.objectives import clip_sides


def actor_bounds(actor: Any) -> tuple[float, float]:
    """``clip_ratio_low`` and ``clip_ratio_high`` of ``actor_rollout_ref.actor`` as verl's losses read them."""
    low, high = actor.clip_ratio_low, actor.clip_ratio_high
    return actor.clip_ratio if low is None else low, actor.clip_ratio if high is None else high


def bounds_in_force(actor: Any, own: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``clip_sides``: the actor's clip, with what the active method's loss has of its own in its place."""
    low, high = actor_bounds(actor)
    return {"low": low, "high": high, "dual": actor.get("clip_ratio_c", 3.0)} | own


def clip_shares(actor: Any, own: dict[str, Any], model_output: dict[str, Any], data: TensorDict) -> dict[str, Metric]:
    """``entropo/clip/SIDE`` of one micro-batch: shares of the global mini-batch's response tokens.

    Nothing here touches the loss: log-probs are read detached, and nothing is written back.

    Args:
        actor: verl's actor settings.
        own: the clip of the active method's loss, from ``Method.clip_bounds``; empty where the loss is verl's.
        model_output: of the actor's forward pass.
        data: the micro-batch, with the advantages that the loss received.
    """
    mask, old, advantage = (padded(data[name]) for name in ("response_mask", "old_log_probs", "advantages"))
    logp = responses_of(model_output["log_probs"].detach(), data, mask.shape[1])
    bounds = bounds_in_force(actor, own)
    sides = clip_sides(logp, old, advantage, mask, **bounds)
    if bounds.get("ratio_bounds") is None:
        del sides["outer"]
    counts = torch.stack(list(sides.values())).sum((1, 2))
    shares = counts * data["dp_size"] / max(data["batch_num_tokens"], 1)
    return {
        f"entropo/clip/{side}": LateMetric(AggregationType.SUM, share)
        for side, share in zip(sides, shares.unbind(), strict=True)
    }
