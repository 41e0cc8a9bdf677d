"""REPO: the advantage is modified by the sampled token's log-probability, ``A - beta * L`` (EPRL, arXiv 2603.11682).

Every function takes and returns ``(batch, response)`` tensors, in nats, and lets no gradient through.
"""

from __future__ import annotations

import torch
from torch import Tensor


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


def repo_r(advantage: Tensor, level: Tensor, zeta: float) -> Tensor:
    """REPO-R: ``beta = zeta * |A|``, clamped so that no advantage changes its sign (EPRL as read in SkyRL).

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


def step_cost(advantage: Tensor, logp: Tensor, entropy: Tensor, mask: Tensor) -> Tensor:
    """Predicted first-order entropy loss of the step per unit of learning rate: ``mean(p * A * L)`` over the mask.

    The sampled-token estimate of EPRL's theorem 1, ``-dH/eta``; accumulated in fp64. Tokens at which a field is not
    finite are left out, so that one broken response does not spoil the batch.

    Returns:
        A scalar; 0 when nothing is unmasked.
    """
    wide = logp.double()
    return _masked_mean(wide.exp() * advantage.double() * (wide + entropy.double()), mask)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    kept = mask.bool() & values.isfinite()
    return torch.where(kept, values, torch.zeros_like(values)).sum() / kept.sum().clamp(min=1)


def neutral_beta(advantage: Tensor, logp: Tensor, entropy: Tensor, mask: Tensor, pull: float, cap: float) -> Tensor:
    """The beta with which ``A - beta * L`` moves entropy by ``pull`` and no more, to first order (ours).

    ``beta = (mean(p A L) + pull) / mean(p L^2)``, the sampled-token estimate of the entropy-neutral
    ``E[p A0 L] / E[p L^2]``; means over the mask in fp64, with pi_old's exact ``L = log p + H``.

    Args:
        advantage, logp, entropy, mask: ``(batch, response)``; logp and entropy of pi_old, nats.
        pull: wanted extra change, ``kappa * (H* - H)``, from the ``neutral`` law.
        cap: largest |beta|.

    Returns:
        A scalar fp64 tensor; 0 when no token can move entropy.
    """
    wide = torch.where(mask.bool(), logp, torch.zeros_like(logp)).double()
    level = wide + torch.where(mask.bool(), entropy, torch.zeros_like(entropy)).double()
    restoring = _masked_mean(wide.exp() * level**2, mask)
    wanted = step_cost(advantage, logp, entropy, mask) + pull
    safe = torch.where(restoring > 0, restoring, torch.ones_like(restoring))
    return torch.where(restoring > 0, wanted / safe, torch.zeros_like(wanted)).clamp(-cap, cap)


def bound_beta(beta: Tensor, advantage: Tensor, level: Tensor, mask: Tensor, share: float) -> Tensor:
    """beta reduced until ``mean |beta L| <= share * mean |A|``, so that it never overrules the reward (ours)."""
    size, room = _masked_mean(level.double().abs(), mask), share * _masked_mean(advantage.double().abs(), mask)
    limit = torch.where(size > 0, room / torch.where(size > 0, size, torch.ones_like(size)), torch.zeros_like(size))
    return torch.clamp(beta, -limit, limit)


def repo_neutral(advantage: Tensor, level: Tensor, beta: Tensor) -> Tensor:
    """``A - beta * L`` with beta from :func:`neutral_beta` and :func:`bound_beta` (ours; REPO's general form, EPRL).

    Args:
        advantage: ``(batch, response)`` base advantage.
        level: ``(batch, response)`` from :func:`stand_in`, centred.
        beta: scalar.
    """
    return advantage - beta.to(advantage.dtype) * level


def repo_d(advantage: Tensor, level: Tensor, cost: Tensor, zeta: float) -> Tensor:
    """REPO-D, our reading: ``A - beta * L`` with the batch scalar ``beta = zeta * mean(p * A * L)``. Experimental.

    A batch that is predicted to lose entropy gets ``beta > 0``. The paper's sign and unit cannot be recovered from
    public sources, and one of its reviewers reports REPO-R was always at least as good.

    Args:
        advantage: ``(batch, response)`` base advantage.
        level: ``(batch, response)`` from :func:`stand_in`, centred.
        cost: scalar from :func:`step_cost`.
    """
    return advantage - (zeta * cost).to(advantage.dtype) * level


def drop_small(advantage: Tensor, threshold: float) -> Tensor:
    """Zero for the responses whose ``|A|`` is below ``threshold`` (LOOP's filter, 0.01 there; 0 drops nothing).

    The responses stay in the batch with no gradient, so that normalisation does not depend on the filter.
    """
    return torch.where(advantage.abs() < threshold, torch.zeros_like(advantage), advantage)
