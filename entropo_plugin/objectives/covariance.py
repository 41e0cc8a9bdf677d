"""Clip-Cov and KL-Cov: the losses that act on selected tokens (arXiv 2505.22617, eq. 11-14, listing 1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from entropo_plugin.objectives.ratio import clipped, log_ratio, ratio_and_advantage, response_only, weighed
from entropo_plugin.shapes import same_shape


@same_shape("logp", "old_logp", "advantage", "mask", "selected", "weight")
def clip_cov(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    selected: Tensor,
    *,
    low: float = 1.0,
    high: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """PPO's surrogate with the selected tokens dropped (arXiv 2505.22617, eq. 12): no loss and no gradient from them.

    Args:
        logp: ``(batch, response)`` current log-probs, nats; carries the gradient.
        old_logp: ``(batch, response)`` log-probs of pi_old.
        advantage: ``(batch, response)``.
        mask: ``(batch, response)`` non-zero on response tokens.
        selected: ``(batch, response)`` boolean, from :mod:`entropo_plugin.objectives.selection`.
        low, high: clip of the ratio, ``[1 - low, 1 + high]``; the authors' code has [0, 2].
        weight: ``(batch, response)`` rollout importance weights.

    Returns:
        ``(batch, response)`` loss, 0 in the padding.
    """
    ratio, advantage = ratio_and_advantage(logp, old_logp, advantage, mask)
    loss = weighed(-advantage * clipped(ratio, advantage, low, high), weight, mask)
    return torch.where(selected, 0, loss)


@same_shape("logp", "old_logp", "advantage", "mask", "selected", "weight")
def kl_cov(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    selected: Tensor,
    *,
    beta: float = 1.0,
    kind: str = "abs",
    weight: Tensor | None = None,
    weigh_penalty: bool = False,
) -> Tensor:
    """Unclipped surrogate ``-r A``, with ``+ beta * penalty`` on the selected tokens (arXiv 2505.22617, eq. 14).

    Args:
        logp, old_logp, advantage, mask, selected: as for :func:`clip_cov`.
        beta: weight of the penalty.
        kind: one of :data:`PENALTIES`.
        weight: ``(batch, response)`` rollout importance weights; they scale the policy-gradient term only.
        weigh_penalty: scale the penalty by them too, as verl's ``kl_cov`` does, for comparison.

    Returns:
        ``(batch, response)`` loss, 0 in the padding.
    """
    change = log_ratio(logp, old_logp, mask)
    loss = -response_only(advantage, mask) * torch.exp(change)
    extra = _penalty(change, selected, beta, kind)
    if weight is None:
        return loss + extra
    scale = response_only(weight, mask)
    return (loss + extra) * scale if weigh_penalty else loss * scale + extra


@same_shape("logp", "old_logp", "mask", "selected")
def kl_penalty(
    logp: Tensor, old_logp: Tensor, mask: Tensor, selected: Tensor, beta: float = 1.0, kind: str = "abs"
) -> Tensor:
    """``beta * penalty(log p - log p_old)`` on the selected tokens and 0 elsewhere, ``(batch, response)``.

    Raises:
        ValueError: ``kind`` is none of :data:`PENALTIES`.
    """
    return _penalty(log_ratio(logp, old_logp, mask), selected, beta, kind)


def _penalty(change: Tensor, selected: Tensor, beta: float, kind: str) -> Tensor:
    """Of ``change = log p - log p_old``, which is 0 in the padding: so is every penalty of it."""
    if kind not in PENALTIES:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(PENALTIES)}.")
    return torch.where(selected, beta * PENALTIES[kind](change), 0)


def _k3(change: Tensor) -> Tensor:
    return torch.expm1(change) - change


# d = log p - log p_old: `abs` is the authors' code, whose gradient is +-1 wherever d is not 0; `k2` = d^2 / 2;
# `k3` = exp(d) - 1 - d, on pi_old's samples an unbiased estimate of KL(pi_old || pi). All are 0, with gradient 0, at 0.
PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {"abs": torch.abs, "k2": lambda change: change**2 / 2, "k3": _k3}


@same_shape("logp", "advantage", "mask")
def micro_top(logp: Tensor, advantage: Tensor, mask: Tensor, ratio: float) -> Tensor:
    """verl 0.9.1's choice for ``kl_cov`` in one micro-batch, for comparison only.

    Current log-probs, means over the micro-batch in the inputs' precision, and at least one token: it depends on how
    the batch is cut, and with one response to a micro-batch every covariance is 0. The one exception to "as verl": a
    ratio of 0, to which a schedule may lead and which verl does not allow, chooses none.

    Returns:
        ``(batch, response)`` boolean.
    """
    place = mask.bool().nonzero()
    level, gain = logp.detach()[mask.bool()], advantage.detach()[mask.bool()]
    chosen = torch.zeros_like(mask, dtype=torch.bool)
    if len(place) and ratio > 0:
        cov = (gain - gain.mean()) * (level - level.mean())
        order = place[cov.topk(max(1, int(len(cov) * ratio))).indices]
        chosen[order[:, 0], order[:, 1]] = True
    return chosen


@same_shape("logp", "old_logp", "advantage", "mask")
def micro_band(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    ratio: float,
    band: tuple[float, float],
    clip: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """verl 0.9.1's choice for ``clip_cov`` in one micro-batch, for comparison only.

    As :func:`micro_top`; tokens that PPO's clip already cuts are no candidates, the bounds are exclusive, and chance is
    torch's global generator on the CPU.

    Returns:
        ``(batch, response)`` boolean.
    """
    kept, level = mask.bool(), logp.detach()
    count = kept.sum() + 1e-8
    means = [torch.where(kept, each, torch.zeros_like(each)).sum() / count for each in (advantage, level)]
    cov = (advantage - means[0]) * (level - means[1])
    moved = torch.exp(level - old_logp)
    cut = -advantage * torch.clamp(moved, 1 - clip[0], 1 + clip[1]) > -advantage * moved
    place = (kept & ~cut & (cov > band[0]) & (cov < band[1])).nonzero()
    wanted = max(1, int(ratio * int(kept.sum()))) if ratio > 0 else 0
    order = place[torch.randperm(len(place))[:wanted]] if len(place) else place
    chosen = torch.zeros_like(kept)
    chosen[order[:, 0], order[:, 1]] = True
    return chosen
