"""The probability ratio that every surrogate shares, and a check that nothing broken is hidden in it."""

from __future__ import annotations

import math

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
    return response_only(logp - old_logp, mask).clamp(min=-LOG_RATIO_BOUND, max=LOG_RATIO_BOUND)


@same_shape("values", "mask")
def response_only(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` with 0 in the padding; a NaN there would survive a product with the mask."""
    return torch.where(mask.bool(), values, 0)


def ratio_and_advantage(logp: Tensor, old_logp: Tensor, advantage: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``r = p / p_old``, 1 in the padding, and the advantage, 0 there: what every surrogate begins with."""
    kept = mask.bool()
    return torch.exp(log_ratio(logp, old_logp, kept)), response_only(advantage, kept)


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float, dual: float = math.inf) -> Tensor:
    """The ratio that PPO's surrogate multiplies by the advantage: the clip bounds it on one side only.

    ``min(r A, clip(r, 1 - low, 1 + high) A)`` is ``A min(r, 1 + high)`` for ``A >= 0`` and ``A max(r, 1 - low)`` for
    ``A < 0``; the dual clip bounds the latter from above. One product, where PPO's code compares two; in bf16 both
    may round alike just beyond a bound, and there PPO's code keeps half of a gradient, this one none.

    Raises:
        ValueError: ``dual`` is at most 1.
    """
    if dual <= 1:
        raise ValueError(f"dual={dual}: the dual clip bounds the ratio from above, so it must exceed 1.")
    return torch.where(advantage < 0, torch.clamp(ratio, 1 - low, dual), torch.clamp(ratio, max=1 + high))


def one_of(log_prob: Tensor) -> Tensor:
    """``exp(log p - stop(log p))``, the number 1 with the gradient of log p."""
    return 1 + (log_prob - log_prob.detach())


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
