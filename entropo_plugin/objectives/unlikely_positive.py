"""UP: right answers keep the full gradient of their log-prob, however far the ratio has fallen (arXiv 2607.06987)."""

from __future__ import annotations

import torch
from torch import Tensor

from entropo_plugin.objectives.ratio import clipped, one_of, ratio_and_advantage, response_only, weighed
from entropo_plugin.shapes import same_shape


@same_shape("logp", "old_logp", "advantage", "mask", "weight")
def unlikely_positive(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    low: float,
    high: float,
    dual: float = 3.0,
    weight: Tensor | None = None,
) -> Tensor:
    """``A > 0: -exp(log p - stop(log p)) A``, whose gradient is ``-A grad log p``; else the clipped surrogate.

    At ratio 1 it is the clipped surrogate bit for bit.

    Args:
        logp: ``(batch, response)`` current log-probs, nats; carries the gradient.
        old_logp: ``(batch, response)`` log-probs of pi_old.
        advantage: ``(batch, response)``.
        mask: ``(batch, response)`` non-zero on response tokens.
        low, high, dual: clip of the surrogate, as in :func:`entropo_plugin.objectives.adapo`.
        weight: ``(batch, response)`` rollout importance weights.

    Returns:
        ``(batch, response)`` loss, 0 in the padding.
    """
    ratio, advantage = ratio_and_advantage(logp, old_logp, advantage, mask)
    one = one_of(response_only(logp, mask))
    kept = torch.where(advantage > 0, one, clipped(ratio, advantage, low, high, dual))
    return weighed(-advantage * kept, weight, mask)
