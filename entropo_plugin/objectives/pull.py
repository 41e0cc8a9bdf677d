"""How a batch pulls on entropy, and the laws that answer within the same step, without a unit (ours).

To first order a policy-gradient step changes entropy by ``-C`` per unit of learning rate, and ``A - beta L`` changes it
by ``beta R - C`` (arXiv 2603.11682 and 2505.22617, theorem 1). Both are means over the sampled tokens, so a batch tells
which beta holds entropy. Pure functions: what they remember goes in and comes back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from entropo_plugin.objectives.exact import finite, row_blocks
from entropo_plugin.objectives.repo import LOWEST, stand_in
from entropo_plugin.shapes import same_shape

# verl's loss_agg_mode values that give every response token one weight, up to a factor that cancels in the laws
EVEN_MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm")
AGGREGATION_MODES = (*EVEN_MODES, "seq-mean-token-mean")
# nats; a target below it is taken as it where the error is divided by the target
SMALLEST_TARGET = 1e-6


@dataclass(frozen=True)
class EntropyPull:
    """Means over the response tokens of pi_old, with ``p`` a token's probability and ``L = log p + H``; fp64."""

    pull: float  # C = mean(p A L): first-order entropy loss of the step per unit of learning rate
    restoring: float  # R = mean(p L^2): entropy that one unit of beta gives back
    restoring_by_advantage: float  # mean(p w L^2): what one unit of zeta gives back in A - zeta w L, w = max(|A|, a)
    pull_size: float  # m = mean |p A L|
    advantage_size: float  # mean |A|
    logp_size: float  # mean |L|


@dataclass(frozen=True)
class PullMemory:
    """Exponential means over the steps; 0: nothing but zeros so far."""

    pull_size: float = 0.0
    advantage_size: float = 0.0


class NeutralStep(NamedTuple):
    """What :func:`neutral_step` answers."""

    beta: float
    at_bound: bool
    memory: PullMemory


class MatchedStep(NamedTuple):
    """What :func:`matched_zeta` answers."""

    zeta: float
    at_bound: bool
    no_authority: bool
    memory: PullMemory


def token_weights(mask: Tensor, mode: str) -> Tensor:
    """Each response token's share of the loss under verl's ``loss_agg_mode``; the shares add up to 1.

    Every mode but ``seq-mean-token-mean`` weighs all tokens alike; that one weighs a token by 1 / length. Responses
    without a token count for nothing, as in verl.

    Args:
        mask: ``(batch, response)``, non-zero on response tokens.
        mode: verl's ``actor.loss_agg_mode``.

    Returns:
        ``(batch, response)`` fp64, 0 outside the mask.

    Raises:
        ValueError: a mode whose weights are not known.
    """
    return mask.bool().double() * response_weights(mask, mode)


def response_weights(mask: Tensor, mode: str) -> Tensor:
    """``(batch, 1)`` fp64, the weight that :func:`token_weights` gives to every token of a response.

    Args:
        mask, mode: as for :func:`token_weights`.
    """
    if mode not in AGGREGATION_MODES:
        raise ValueError(f"loss_agg_mode={mode!r}: how it weighs tokens is not known; take one of {AGGREGATION_MODES}.")
    length = mask.count_nonzero(-1)[:, None].double()
    if mode != "seq-mean-token-mean":
        return torch.ones_like(length) / length.sum().clamp(min=1)
    return (1 / length.clamp(min=1)) / length.count_nonzero().clamp(min=1)


@same_shape("logp", "entropy", "advantage", "mask", "weight")
def entropy_pull(
    logp: Tensor,
    entropy: Tensor,
    advantage: Tensor,
    mask: Tensor,
    weight: Tensor | None = None,
    floor: float = -20.0,
    least: float = 0.0,
) -> EntropyPull:
    """What the advantages of one batch do to entropy, and what can undo it.

    A log-prob of -inf, which has p = 0, adds 0 to every sum that p weighs and stays in the means, as one of -1e4 does.
    Tokens with a NaN, or another field that is not finite, are left out, so that one broken response does not spoil the
    batch.

    Args:
        logp, entropy: ``(batch, response)`` of pi_old, nats.
        advantage: ``(batch, response)`` before any shaping.
        mask: ``(batch, response)``, non-zero on response tokens.
        weight: ``(batch, response)`` from :func:`token_weights`, or :func:`response_weights` expanded to it; None
            weighs all response tokens alike.
        floor: log-probs below are raised to it in L, as in :func:`stand_in`.
        least: a of :func:`entropo_plugin.objectives.repo_matched`.
    """
    total, sums = 0.0, torch.zeros(len(fields(EntropyPull)), dtype=torch.float64)
    for rows in row_blocks(mask):
        own = None if weight is None else weight[rows]
        share, values = _pull_of_tokens(logp[rows], entropy[rows], advantage[rows], mask[rows], own, floor, least)
        total += float(share.sum())
        sums += torch.stack([(share * each).sum() for each in values]).cpu()
    return EntropyPull(*(sums / max(total, torch.finfo(torch.float64).tiny)).tolist())


def _pull_of_tokens(
    logp: Tensor,
    entropy: Tensor,
    advantage: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    floor: float,
    least: float,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Each readable token's weight, and its part in every mean of :class:`EntropyPull`; ``(tokens,)`` in fp64."""
    readable = mask.bool() & (logp < math.inf) & finite(entropy) & finite(advantage)
    kept = readable.flatten().nonzero()[:, 0]
    old, entropies, gain = (each.flatten().index_select(0, kept).double() for each in (logp, entropy, advantage))
    share = torch.ones_like(old) if weight is None else weight.flatten().index_select(0, kept).double()
    centred, p = stand_in(old.clamp_(min=LOWEST), entropies, floor), old.exp()
    pull, square, size = p * gain * centred, p * centred**2, gain.abs()
    return share, (pull, square, square * size.clamp(min=least), pull.abs(), size, centred.abs_())


def neutral_step(
    stats: EntropyPull,
    memory: PullMemory,
    entropy: float,
    target: float,
    following: float,
    *,
    gain: float = 10.0,
    authority: float = 1.0,
    authority_down: float = 1.0,
    decay: float = 0.9,
) -> NeutralStep:
    """The beta of ``A - beta L`` that leads this very batch to the next target, bounded by the advantages (ours).

    ``beta = (C + k M (H*_next - H) / H*) / R`` with ``M`` the exponential mean of ``mean |p A L|``, and
    ``|beta| mean |L| <= s max(mean |A|, exponential mean of mean |A|)``. No constant has a unit: rewards times 10 give
    beta times 10. The exponential mean keeps the law's authority where all rewards of a batch are equal.

    Args:
        stats: the batch, from :func:`entropy_pull`.
        memory: of the step before; a fresh one in the first step.
        entropy: measured in this step, nats.
        target, following: H* of this step and of the next, nats.
        gain: k.
        authority, authority_down: s for a beta that raises entropy and for one that lowers it.
        decay: of the exponential means.
    """
    memory = _remember(memory, stats, decay)
    wanted = _quotient(_wanted(stats, memory, gain, entropy, target, following), stats.restoring)
    size = max(stats.advantage_size, memory.advantage_size)
    limit = size / stats.logp_size if stats.logp_size > 0 else 0.0
    beta = min(authority * limit, max(-authority_down * limit, wanted))
    return NeutralStep(beta, beta != wanted, memory)


def matched_zeta(
    stats: EntropyPull,
    memory: PullMemory,
    zeta: float,
    entropy: float,
    target: float,
    following: float,
    *,
    high: float,
    gain: float = 10.0,
    decay: float = 0.9,
) -> MatchedStep:
    """The zeta of ``A - zeta |A| L`` that leads this very batch to the next target (ours), ``|zeta| <= high``.

    ``zeta = (C + k M (H*_next - H) / H*) / mean(p |A| L^2)``. Where the denominator is 0, all rewards of every group
    being equal, no zeta moves anything: the last one is held and ``no_authority`` is true.

    Args:
        stats, memory, entropy, target, following, gain, decay: as in :func:`neutral_step`.
        zeta: of the step before.
        high: largest |zeta|.
    """
    memory = _remember(memory, stats, decay)
    if stats.restoring_by_advantage <= 0:
        return MatchedStep(zeta, False, True, memory)
    wanted = _wanted(stats, memory, gain, entropy, target, following) / stats.restoring_by_advantage
    bounded = min(high, max(-high, wanted))
    return MatchedStep(bounded, bounded != wanted, False, memory)


def _wanted(
    stats: EntropyPull, memory: PullMemory, gain: float, entropy: float, target: float, following: float
) -> float:
    """``C + k M e``: what the step takes from entropy, and what it should add."""
    return stats.pull + gain * memory.pull_size * (following - entropy) / max(target, SMALLEST_TARGET)


def _remember(memory: PullMemory, stats: EntropyPull, decay: float) -> PullMemory:
    return PullMemory(
        _smoothed(memory.pull_size, stats.pull_size, decay),
        _smoothed(memory.advantage_size, stats.advantage_size, decay),
    )


def _smoothed(mean: float, value: float, decay: float) -> float:
    return decay * mean + (1 - decay) * value if mean > 0 else value


def _quotient(wanted: float, restoring: float) -> float:
    """Where nothing restores entropy, an unlimited wish: the bound then answers."""
    if restoring > 0:
        return wanted / restoring
    return math.copysign(math.inf, wanted) if wanted else 0.0
