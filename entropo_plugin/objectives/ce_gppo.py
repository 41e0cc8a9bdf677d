"""CE-GPPO: a bounded gradient from the tokens that PPO's clip would cut (arXiv 2509.20712)."""

from __future__ import annotations

import torch
from torch import Tensor

from entropo_plugin.objectives.ratio import log_ratio, one_of, response_only, weighed
from entropo_plugin.shapes import same_shape


@same_shape("logp", "old_logp", "advantage", "mask", "weight")
def ce_gppo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    low: float,
    high: float,
    keep_low: float,
    keep_high: float,
    dual: float = 3.0,
    weight: Tensor | None = None,
) -> Tensor:
    """``-r A``, and beyond the clip, where PPO has no gradient, one of the clip's own size.

    - ``A < 0, r < 1 - low``: ``-keep_low (1 - low) (r / stop(r)) A``
    - ``A > 0, r > 1 + high``: ``-keep_high (1 + high) (r / stop(r)) A``

    and for ``A < 0`` at most ``-dual A``, as in PPO's dual clip.

    Args:
        logp: ``(batch, response)`` current log-probs, nats; carries the gradient.
        old_logp: ``(batch, response)`` log-probs of pi_old.
        advantage: ``(batch, response)``.
        mask: ``(batch, response)`` non-zero on response tokens.
        low, high: clip of the ratio, ``[1 - low, 1 + high]``.
        keep_low, keep_high: share of the clip's gradient that is kept below and above it; 0 gives PPO's gradient.
        dual: bound of the loss for negative advantages, as a ratio, above 1.
        weight: ``(batch, response)`` rollout importance weights.

    Returns:
        ``(batch, response)`` loss, 0 in the padding.
    """
    change, advantage = log_ratio(logp, old_logp, mask), response_only(advantage, mask)
    ratio, negative = torch.exp(change.detach()), advantage < 0
    below, above = negative & (ratio < 1 - low), ~negative & (ratio > 1 + high)
    scale = torch.where(below, keep_low * (1 - low), torch.where(above, keep_high * (1 + high), ratio))
    kept = scale * one_of(change)
    return weighed(-advantage * torch.where(negative, kept.clamp(max=dual), kept), weight, mask)
