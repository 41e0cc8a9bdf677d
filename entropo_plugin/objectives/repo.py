"""REPO: the advantage is modified by the sampled token's log-probability, ``A - beta * L`` (arXiv 2603.11682).

Every function takes and returns ``(batch, response)`` tensors, in nats, and lets no gradient through.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entropo_plugin.shapes import same_shape

# a log-prob whose probability is 0 in fp64 as well: stands for -inf, which times 0 is no number
LOWEST = -1e4


@same_shape("logp", "entropy")
def stand_in(logp: Tensor, entropy: Tensor | None = None, floor: float = -20.0) -> Tensor:
    """What stands for ``L = log p - E log p``: the floored raw log-prob, or, with entropy, the exact ``log p + H``.

    Args:
        logp: ``(batch, response)`` log-probs of the sampled tokens; those below ``floor`` are raised to it.
        entropy: ``(batch, response)`` entropies in nats at the same states, or None for the uncentred form.

    Returns:
        ``(batch, response)``, detached.
    """
    raw = logp.detach().clamp(min=floor)
    return raw if entropy is None else raw + entropy.detach()


@same_shape("advantage", "level")
def repo_r(advantage: Tensor, level: Tensor, zeta: float) -> Tensor:
    """REPO-R: ``beta = zeta * |A|``, clamped so that no advantage changes its sign (arXiv 2603.11682 as read in SkyRL).

    ``A > 0: max(0, A * (1 - zeta * L))``, ``A < 0: min(0, A * (1 + zeta * L))``, ``A = 0: 0``. For ``zeta > 0`` a rare
    token's positive advantage grows and its negative one shrinks; common tokens are left almost as they are.

    Args:
        advantage: ``(batch, response)`` base advantage.
        level: ``(batch, response)`` from :func:`stand_in`.
        zeta: coefficient; positive raises entropy, negative lowers it, 0 is the identity.
    """
    push = zeta * level
    raised = (advantage * (1 - push)).clamp(min=0)
    lowered = (advantage * (1 + push)).clamp(max=0)
    # what is neither above nor below 0 is 0, or a NaN that must not be hidden
    return torch.where(advantage > 0, raised, torch.where(advantage < 0, lowered, advantage))


@same_shape("advantage", "logp", "entropy", "mask")
def step_cost(advantage: Tensor, logp: Tensor, entropy: Tensor, mask: Tensor) -> Tensor:
    """Predicted first-order entropy loss of the step per unit of learning rate: ``mean(p * A * L)`` over the mask.

    The sampled-token estimate of ``-dH/eta`` (arXiv 2603.11682, theorem 1), in fp64. A log-prob of -inf, which has
    p = 0, adds 0 to the sum and stays in the mean, as one of -1e4 does. Tokens with a NaN, or another field that is not
    finite, are left out, so that one broken response does not spoil the batch.

    Returns:
        A scalar; 0 when nothing is unmasked.
    """
    wide = logp.double().clamp(min=LOWEST)
    return _masked_mean(wide.exp() * advantage.double() * (wide + entropy.double()), mask)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    kept = mask.bool() & values.isfinite()
    return torch.where(kept, values, torch.zeros_like(values)).sum() / kept.sum().clamp(min=1)


@same_shape("advantage", "level")
def repo_neutral(advantage: Tensor, level: Tensor, beta: Tensor | float) -> Tensor:
    """``A - beta * L`` with the batch's own beta (ours; REPO's general form, arXiv 2603.11682).

    Args:
        advantage: ``(batch, response)`` base advantage.
        level: ``(batch, response)`` from :func:`stand_in`, centred.
        beta: scalar.
    """
    return advantage - (beta if isinstance(beta, float) else beta.to(advantage.dtype)) * level


@same_shape("advantage", "level")
def repo_matched(advantage: Tensor, level: Tensor, zeta: float, least: float | Tensor = 0.0) -> Tensor:
    """REPO-R unclamped and with the exact L: ``A - zeta max(|A|, a) L``, what :func:`matched_zeta` steers (ours).

    For ``|zeta L| <= 1`` and ``a = 0`` it equals :func:`repo_r` on the same centred L.

    Args:
        advantage: ``(batch, response)`` base advantage.
        level: ``(batch, response)`` from :func:`stand_in`, centred.
        zeta: coefficient; positive raises entropy to first order, negative lowers it.
        least: a, the smallest weight of a token, so that zeta acts where all rewards of a group are equal.
    """
    return advantage - advantage.abs().clamp(min=least).mul_(zeta).mul_(level)


def repo_d_beta(pull: float, zeta: float) -> float:
    """REPO-D's beta, ``zeta |C|`` with ``C = mean(p A L)``: a positive zeta raises entropy whatever the batch does.

    Our reading of arXiv 2603.11682. With ``zeta C`` in its place a negative zeta would raise entropy wherever the batch
    gains entropy by itself.
    """
    return zeta * abs(pull)


@same_shape("advantage", "logp", "ref_logp", "mask")
def repo_anchored(
    advantage: Tensor, logp: Tensor, ref_logp: Tensor, b: float, mask: Tensor, centre: bool = False
) -> Tensor:
    """``A - b log p / p0``: in expectation the gradient of ``-b KL(p || p0)`` beside the reward's (ours, experimental).

    The advantage carries what verl's KL loss would: ``E[log(p / p0) grad log p] = grad KL(p || p0)``.

    Args:
        advantage: ``(batch, response)`` base advantage.
        logp, ref_logp: ``(batch, response)`` log-probs of the sampled tokens under pi_old and the reference, nats.
        b: weight of the anchor, 0 or more; 0 is the identity.
        mask: ``(batch, response)``, non-zero on response tokens.
        centre: subtract the batch mean of the log-ratio, which changes no expected gradient and lowers its variance.

    Returns:
        ``(batch, response)``, detached; the base advantage outside the mask.
    """
    kept = mask.bool()
    drift = torch.where(kept, logp.detach() - ref_logp.detach(), torch.zeros_like(logp))
    if centre:
        drift = torch.where(kept, drift - _masked_mean(drift.double(), mask).to(drift.dtype), drift)
    return advantage - (b * drift).to(advantage.dtype)


def drop_small(advantage: Tensor, threshold: float) -> Tensor:
    """Zero for the responses whose ``|A|`` is below ``threshold`` (apple/ml-loop: 0.01; 0 drops nothing).

    The responses stay in the batch with no gradient, so that normalisation does not depend on the filter.
    """
    return torch.where(advantage.abs() < threshold, torch.zeros_like(advantage), advantage)
