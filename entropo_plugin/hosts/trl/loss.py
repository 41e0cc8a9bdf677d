"""The worker's part of the pipeline in one micro-batch of TRL's loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from entropo_plugin.methods.active import selection_name
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.objectives import clip_sides, response_only
from entropo_plugin.pipeline import WORKER, drop, loss_owner, penalties, select, shape

SELECTED = "entropo_selected_"
ROW = "entropo_row"
BROKEN = "entropo/nonfinite/log_probs"
# TRL's losses that cut the gradient of a token by its ratio
CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
# TRL's losses that are divided by the optimizer step's tokens
BY_TOKENS = ("cispo", "dapo", "vespo")

Coefficients = Mapping[str, Mapping[str, float]]


def micro_tokens(inputs: Mapping[str, Any], log_prob: Tensor, entropy: Tensor | None) -> Tokens:
    """The micro-batch, ``(batch, response)``, with the current policy's log-probs and entropies."""
    mask = inputs["completion_mask"]
    advantage, old, weight = (
        inputs.get(name) for name in ("advantages", "old_per_token_logps", "importance_sampling_ratio")
    )
    assert advantage is not None
    return Tokens(
        log_prob=log_prob,
        mask=mask * inputs["tool_mask"] if "tool_mask" in inputs else mask,
        old_log_prob=log_prob.detach() if old is None else old,
        advantage=(advantage.unsqueeze(1) if advantage.dim() == 1 else advantage).expand_as(log_prob),
        entropy=entropy,
        ref_log_prob=inputs.get("ref_per_token_logps"),
        weight=None if weight is None else weight.expand_as(log_prob),
    )


def inform(
    methods: Sequence[Method], inputs: dict[str, Any], tokens: Tokens, coefficients: Coefficients
) -> tuple[Tensor | None, Tokens, dict[str, Tensor]]:
    """Write this micro-batch's advantages into TRL's inputs, before TRL reads them.

    A method's own loss takes the place of TRL's: TRL then finds no advantage, and is left with its KL loss, entropy
    bonus and auxiliary loss.

    Returns:
        ``(batch, response)`` loss that is to be added to TRL's, or None; the tokens with the advantages that act; and
        by method the chosen tokens.
    """
    chosen = {method.name: inputs[f"{SELECTED}{method.name}"] for method in methods if _is_chosen(method, inputs)}
    if any(method.shapes == "worker" for method in methods):
        shaped = drop(methods, shape(methods, tokens, coefficients, "worker"), chosen)
        tokens = replace(tokens, advantage=response_only(shaped, tokens.mask))
        inputs["advantages"] = tokens.advantage
    extra, owner = None, loss_owner(methods)
    if owner is not None:
        chosen |= select([owner], tokens, coefficients, WORKER)[0]
        extra = owner.loss(tokens, coefficients[owner.name], chosen.get(owner.name))
        inputs["advantages"] = torch.zeros_like(tokens.advantage)
    added = penalties(methods, tokens, coefficients, chosen)
    if added is not None:
        extra = added if extra is None else extra + added
    return extra, tokens, chosen


def _is_chosen(method: Method, inputs: Mapping[str, Any]) -> bool:
    return f"{SELECTED}{method.name}" in inputs


def normalised(values: Tensor, mask: Tensor, loss_type: str, rows: int, steps: int, tokens: Tensor | float) -> Tensor:
    """One number from ``(batch, response)`` losses, normalised as TRL's ``_compute_loss`` does for a loss type.

    Args:
        rows: most tokens of a completion, ``max_completion_length``.
        steps: micro-batches of this optimizer step.
        tokens: what a token's share of the optimizer step's loss is divided by, on this process.
    """
    kept = torch.where(mask.bool(), values, torch.zeros_like(values))
    count = mask.sum(-1).clamp(min=1.0)
    if loss_type in BY_TOKENS:
        return kept.sum() / tokens
    if loss_type == "bnpo":
        return kept.sum() / mask.sum().clamp(min=1.0) / steps
    if loss_type == "dr_grpo":
        return kept.sum() / (len(kept) * rows) / steps
    if loss_type == "luspo":
        return kept.sum(-1).mean() / steps
    return (kept.sum(-1) / count).mean() / steps


def shares(methods: Sequence[Method], before: Tokens, after: Tokens, chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``(batch, response)`` values whose mean over all response tokens is logged."""
    values = {BROKEN: ~after.log_prob.detach().isfinite()}
    if any(method.shapes == "worker" for method in methods):
        late = next(method for method in methods if method.shapes == "worker")
        values[selection_name(methods, late, "entropo/shift")] = (after.advantage - before.advantage).abs()
    return values | {
        selection_name(methods, method, f"entropo/selection/{method.acts_on}"): chosen[method.name]
        for method in methods
        if method.name in chosen
    }


def clip_shares(tokens: Tokens, bounds: Mapping[str, Any]) -> dict[str, Tensor]:
    """Which tokens lie beyond the clip of the policy loss, by side and by the advantage's sign."""
    sides = clip_sides(tokens.log_prob.detach(), tokens.old_log_prob, tokens.advantage, tokens.mask, **bounds)
    for side, absent in (("outer", bounds.get("ratio_bounds") is None), ("dual", math.isinf(bounds["dual"]))):
        if absent:
            del sides[side]
    return {f"entropo/clip/{side}": values for side, values in sides.items()}


def bounds_in_force(
    methods: Sequence[Method], coefficients: Coefficients, loss_type: str, clip: tuple[float, float, float]
) -> dict[str, Any] | None:
    """Arguments of ``clip_sides``: TRL's clip, with what the active method's loss has of its own in its place.

    None where no token's ratio is clipped.
    """
    owner = loss_owner(methods)
    if owner is None and loss_type not in CLIPPED:
        return None
    own = {} if owner is None else owner.clip_bounds(coefficients[owner.name])
    bounds = dict(zip(("low", "high", "dual"), clip, strict=True)) | own
    return None if all(map(math.isinf, (bounds["low"], bounds["high"], bounds["dual"]))) else bounds
