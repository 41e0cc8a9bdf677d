"""The probability ratio that every surrogate shares, and a check that nothing broken is hidden in it."""

from __future__ import annotations

import torch
from torch import Tensor

from entropo_plugin.shapes import same_shape

# verl's own bound: exp(20) is finite in every float type that training uses but fp16.
LOG_RATIO_BOUND = 20.0


@same_shape("logp", "old_logp", "mask")
def log_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """``d = log p - log p_old``, clamped to +-20 and 0 in the padding, whatever the padding holds.

    Args:
        logp: ``(batch, response)`` current log-probs of the sampled tokens, nats; carries the gradient.
        old_logp: ``(batch, response)`` log-probs of the policy that the ratio is taken against.
        mask: ``(batch, response)`` non-zero on response tokens.

    Returns:
        ``(batch, response)``; zero gradient in the padding and beyond the clamp.
    """
    kept = mask.bool()
    current = torch.where(kept, logp, torch.zeros_like(logp))
    old = torch.where(kept, old_logp, torch.zeros_like(old_logp))
    return torch.clamp(current - old, min=-LOG_RATIO_BOUND, max=LOG_RATIO_BOUND)


@same_shape("values", "mask")
def response_only(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` with 0 in the padding; a NaN there would survive a product with the mask."""
    return torch.where(mask.bool(), values, torch.zeros_like(values))


def ratio_and_advantage(logp: Tensor, old_logp: Tensor, advantage: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``r = p / p_old``, 1 in the padding, and the advantage, 0 there: what every surrogate begins with."""
    return torch.exp(log_ratio(logp, old_logp, mask)), response_only(advantage, mask)


def weighed(loss: Tensor, weight: Tensor | None, mask: Tensor) -> Tensor:
    """``loss`` times the rollout importance weights, ``(batch, response)``, where there are any."""
    return loss if weight is None else loss * response_only(weight, mask)


def count_nonfinite(mask: Tensor, *values: Tensor) -> int:
    """Number of response tokens at which any of ``values`` is NaN or infinite.

    The losses hide nothing: a NaN in a response token is a NaN in the loss. This says how many there are and why.

    Args:
        mask: ``(batch, response)`` non-zero on response tokens.
        values: ``(batch, response)`` tensors, for example log-probs, advantages and the loss matrix.
    """
    broken = torch.zeros_like(mask, dtype=torch.bool)
    for each in values:
        broken = broken | ~torch.isfinite(each)
    return int((broken & mask.bool()).sum())
