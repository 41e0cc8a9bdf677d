"""ADAPO: DAPO's asymmetric clip whose upper bound follows the entropy (arXiv 2603.11682).

The clip itself is here; what moves ``high`` is a law of :mod:`entropo_plugin.control`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entropo_plugin.objectives.ratio import clipped, log_ratio, ratio_and_advantage, weighed
from entropo_plugin.shapes import same_shape


@same_shape("logp", "old_logp", "advantage", "mask", "weight")
def adapo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    low: float,
    high: float,
    dual: float = 3.0,
    ratio_bounds: tuple[float, float] | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Clipped surrogate ``-min(r A, clip(r, 1 - low, 1 + high) A)``, for ``A < 0`` at most ``-dual * A``.

    DAPO (arXiv 2503.14476) for the two bounds, dual clip from arXiv 1912.09729; with a fixed ``high`` it is verl's
    ``vanilla`` bit for bit, once aggregated by the same function (in bf16 see ``clipped`` in ``ratio.py``).

    Args:
        logp: ``(batch, response)`` current log-probs, nats; carries the gradient.
        old_logp: ``(batch, response)`` log-probs of pi_old.
        advantage: ``(batch, response)``.
        mask: ``(batch, response)`` non-zero on response tokens.
        low, high: clip of the ratio, ``[1 - low, 1 + high]``.
        dual: bound of the loss for negative advantages, as a ratio, above 1.
        ratio_bounds: outer hard clip ``[r_min, r_max]`` of the ratio on all branches (MAI-Thinking-1); beyond it a
            token has no gradient, whatever the sign of its advantage.
        weight: ``(batch, response)`` rollout importance weights.

    Returns:
        ``(batch, response)`` loss, 0 in the padding.
    """
    ratio, advantage = ratio_and_advantage(logp, old_logp, advantage, mask)
    ratio = ratio if ratio_bounds is None else torch.clamp(ratio, *ratio_bounds)
    return weighed(-advantage * clipped(ratio, advantage, low, high, dual), weight, mask)


def high_from_offset(low: float, offset: float) -> float:
    """``high`` for the additive form, whose upper bound of the ratio is ``1 / (1 - low) + offset`` (MAI-Thinking-1)."""
    return 1 / (1 - low) + offset - 1


@same_shape("logp", "old_logp", "advantage", "mask")
def clip_sides(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    low: float,
    high: float,
    dual: float = 3.0,
    ratio_bounds: tuple[float, float] | None = None,
) -> dict[str, Tensor]:
    """Which response tokens lie beyond a bound, by side and by the advantage's sign; all ``(batch, response)`` boolean.

    - ``above_positive``: ``r > 1 + high, A > 0``, no gradient
    - ``below_negative``: ``r < 1 - low, A < 0``, no gradient
    - ``above_negative``: ``r > 1 + high, A < 0``, gradient kept up to the dual clip
    - ``below_positive``: ``r < 1 - low, A > 0``, gradient kept
    - ``dual``: ``r > dual, A < 0``, no gradient
    - ``outer``: the ratio lies outside ``ratio_bounds``, no gradient; all False without them
    """
    raw, kept = torch.exp(log_ratio(logp, old_logp, mask).detach()), mask.bool()
    ratio = raw if ratio_bounds is None else torch.clamp(raw, *ratio_bounds)
    above, below = kept & (ratio > 1 + high), kept & (ratio < 1 - low)
    positive, negative = advantage > 0, advantage < 0
    return {
        "above_positive": above & positive,
        "below_negative": below & negative,
        "above_negative": above & negative,
        "below_positive": below & positive,
        "dual": kept & negative & (ratio > max(dual, 1 - low)),
        "outer": kept & (raw != ratio),
    }
