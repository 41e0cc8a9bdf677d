"""How many tokens lie beyond the clip of the policy loss in force, by side and by the advantage's sign."""

from __future__ import annotations

import math
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils.metric import AggregationType, Metric

from entropo_plugin.hosts.verl.worker.late_metric import LateMetric
from entropo_plugin.hosts.verl.worker.layout import padded, responses_of
from entropo_plugin.objectives import clip_sides


def actor_bounds(actor: Any) -> tuple[float, float]:
    """``clip_ratio_low`` and ``clip_ratio_high`` of ``actor_rollout_ref.actor`` as verl's losses read them."""
    low, high = actor.clip_ratio_low, actor.clip_ratio_high
    return actor.clip_ratio if low is None else low, actor.clip_ratio if high is None else high


def loss_mode(actor: Any) -> str:
    """Name of verl's policy loss; ``bypass_mode`` is one of two others."""
    policy_loss = actor.get("policy_loss") or {}
    mode = policy_loss.get("loss_mode", "vanilla")
    if mode != "bypass_mode":
        return str(mode)
    kind = (policy_loss.get("rollout_correction") or {}).get("loss_type", "ppo_clip")
    return "vanilla" if kind == "ppo_clip" else str(kind)


def bounds_in_force(actor: Any, own: dict[str, Any] | None) -> dict[str, Any] | None:
    """Arguments of ``clip_sides`` for the loss that runs; None where no bound of a ratio cuts a gradient.

    verl's losses as its trainer/ppo/core_algos.py has them: geo_mean bounds the logarithm of the ratio, gspo the ratio
    of a whole response; only vanilla has a dual clip. kl_cov, gpg, sapo and dro have no clip, cispo's keeps the
    gradient, and dppo_tv and dppo_kl cut by another measure.

    Args:
        own: the clip of the active method's loss, from ``Method.clip_bounds``, where it differs from vanilla's; None:
            verl's own loss runs.
    """
    low, high = actor_bounds(actor)
    vanilla = {"low": low, "high": high, "dual": actor.get("clip_ratio_c", 3.0)}
    if own is not None:
        bounds = vanilla | own
        return None if all(map(math.isinf, (bounds["low"], bounds["high"], bounds["dual"]))) else bounds
    single = {"low": low, "high": high, "dual": math.inf}
    logarithmic = {"low": -math.expm1(-low), "high": math.expm1(min(high, 700.0)), "dual": math.inf}
    known = {"vanilla": vanilla, "clip_cov": single, "gspo": single, "geo_mean": logarithmic}
    return known.get(loss_mode(actor))


def clip_shares(
    actor: Any, own: dict[str, Any] | None, model_output: dict[str, Any], data: TensorDict
) -> dict[str, Metric]:
    """``entropo/clip/SIDE`` of one micro-batch: shares of the global mini-batch's response tokens; none without a clip.

    Nothing here touches the loss: log-probs are read detached, and nothing is written back.

    Args:
        actor: verl's actor settings.
        own: as for :func:`bounds_in_force`.
        model_output: of the actor's forward pass.
        data: the micro-batch, with the advantages that the loss received.
    """
    bounds = bounds_in_force(actor, own)
    if bounds is None:
        return {}
    mask, old, advantage = (padded(data[name]) for name in ("response_mask", "old_log_probs", "advantages"))
    logp = responses_of(model_output["log_probs"].detach(), data, mask.shape[1])
    if own is None and loss_mode(actor) == "gspo":
        logp, old = _of_responses(logp, old, mask)
    sides = clip_sides(logp, old, advantage, mask, **bounds)
    for side, absent in (("outer", bounds.get("ratio_bounds") is None), ("dual", math.isinf(bounds["dual"]))):
        if absent:
            del sides[side]
    counts = torch.stack(list(sides.values())).sum((1, 2))
    shares = counts * data["dp_size"] / max(data["batch_num_tokens"], 1)
    return {
        f"entropo/clip/{side}": LateMetric(AggregationType.SUM, share)
        for side, share in zip(sides, shares.unbind(), strict=True)
    }


def _of_responses(logp: Tensor, old: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs whose ratio at every token is that of its whole response: ``exp(mean(log p - log p_old))``."""
    kept = mask.bool()
    change = torch.where(kept, logp - old, torch.zeros_like(logp)).sum(-1, keepdim=True)
    change = change / kept.sum(-1, keepdim=True).clamp(min=1)
    return change.expand_as(logp), torch.zeros_like(logp)
