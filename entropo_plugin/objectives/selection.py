"""Which tokens the covariance methods act on: one choice for the global batch, the same however the batch is cut.

arXiv 2505.22617 eq. 10-14. The means run over all response tokens of the batch in fp64, in sorted order, so that
no order of rows, width of padding or split changes a bit; chance comes from a hash of (seed, step, response, position).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
STRIDE = GOLDEN - (1 << 64)


def covariance(logp: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """``Cov_i = (log p_i - mean log p) * (A_i - mean A)`` over the response tokens (arXiv 2505.22617, eq. 10).

    Args:
        logp: ``(batch, response)`` log-probs of pi_old, nats.
        advantage: ``(batch, response)`` advantages before any shaping.
        mask: ``(batch, response)`` non-zero on response tokens.

    Returns:
        ``(batch, response)`` fp64, detached; NaN in the padding and where an input is not finite. Such tokens enter
        no mean and are never selected.
    """
    readable = mask.bool() & torch.isfinite(logp) & torch.isfinite(advantage)
    level, gain = logp.detach().double(), advantage.detach().double()
    centred = (level - _mean(level[readable])) * (gain - _mean(gain[readable]))
    return torch.where(readable, centred, torch.full_like(centred, math.nan))


def _mean(values: Tensor) -> Tensor:
    """Mean of ``(tokens,)`` in sorted order: equal bits for every order of the tokens."""
    return values.sort().values.sum() / max(len(values), 1)


def quota(mask: Tensor, ratio: float) -> int:
    """``floor(ratio * N)`` of the N response tokens, for the ratio as it is written; 0 is a valid answer.

    .29 of 100 tokens is 29, although the binary number nearest to .29 lies below it.
    """
    return math.floor(_as_written(ratio) * int(mask.bool().sum()))


def _as_written(share: float) -> Fraction:
    """The shortest decimal that reads back as this float."""
    return Fraction(repr(float(share)))


def token_keys(responses: Sequence[str], width: int, seed: int, step: int) -> Tensor:
    """``(batch, width)`` int64 keys, a pure function of (seed, step, response, position) on every platform.

    Each response's row is the SplitMix64 sequence that starts at BLAKE2b-64 of ``seed/step/response``.

    Args:
        responses: one identifier per response, all different.
        width: padded length of the responses; position 0 is the first column.
    """
    if len(set(responses)) < len(responses):
        raise ValueError("responses: two rows have the same identifier, so their tokens cannot be told apart.")
    starts = [hashlib.blake2b(f"{seed}/{step}/{name}".encode(), digest_size=8).digest() for name in responses]
    rows = torch.tensor([int.from_bytes(each, "little", signed=True) for each in starts], dtype=torch.int64)
    return _splitmix(rows[:, None] + torch.arange(1, width + 1)[None, :] * STRIDE)


def _splitmix(state: Tensor) -> Tensor:
    """SplitMix64's output function (Steele, Lea and Flood 2014) on int64, whose products wrap as unsigned ones do."""
    state = (state ^ _shift(state, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    state = (state ^ _shift(state, 27)) * (0x94D049BB133111EB - (1 << 64))
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own copies the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def select_top(cov: Tensor, mask: Tensor, ratio: float, keys: Tensor) -> Tensor:
    """KL-Cov's tokens: the ``floor(ratio * N)`` of highest covariance (arXiv 2505.22617, eq. 13).

    Equal ones by smallest key.

    Args:
        cov: ``(batch, response)`` from :func:`covariance`.
        mask: ``(batch, response)`` non-zero on response tokens.
        ratio: share of the response tokens.
        keys: ``(batch, response)`` from :func:`token_keys`.

    Returns:
        ``(batch, response)`` boolean.
    """
    readable = mask.bool() & ~cov.isnan()
    wanted = min(quota(mask, ratio), int(readable.sum()))
    if wanted == 0:
        return torch.zeros_like(readable)
    edge = cov[readable].topk(wanted).values[-1]
    above, level = readable & (cov > edge), readable & (cov == edge)
    return above | _smallest(keys, level, wanted - int(above.sum()))


def select_band(cov: Tensor, mask: Tensor, ratio: float, keys: Tensor, low: float, high: float) -> Tensor:
    """Clip-Cov's tokens: ``floor(ratio * N)`` at random among ``low <= Cov <= high`` (arXiv 2505.22617, eq. 11).

    Chance is the order of the keys. Fewer candidates than wanted are all taken.

    Args:
        low, high: bounds of the covariance, absolute or from :func:`quantile_band`.

    Returns:
        ``(batch, response)`` boolean.
    """
    candidates = mask.bool() & (cov >= low) & (cov <= high)
    return _smallest(keys, candidates, quota(mask, ratio))


def _smallest(keys: Tensor, among: Tensor, wanted: int) -> Tensor:
    """The ``wanted`` tokens of smallest key among the marked ones."""
    place = among.nonzero()
    order = keys[place[:, 0], place[:, 1]].topk(min(wanted, len(place)), largest=False).indices
    chosen = torch.zeros_like(among)
    chosen[place[order, 0], place[order, 1]] = True
    return chosen


def quantile_band(cov: Tensor, low: float, high: float) -> tuple[float, float]:
    """The covariances at two quantiles of the batch, by nearest rank: bounds that fit any scale of advantage (ours).

    Absolute bounds tie Clip-Cov to standardised advantages; an empty batch gives a band that holds nothing.
    """
    values = cov[~cov.isnan()].sort().values
    if not len(values):
        return math.inf, -math.inf
    return _rank(values, low), _rank(values, high)


def _rank(values: Tensor, share: float) -> float:
    """Nearest-rank quantile of sorted ``(tokens,)``."""
    return float(values[min(len(values) - 1, max(0, math.ceil(_as_written(share) * len(values)) - 1))])


def selection_metrics(cov: Tensor, advantage: Tensor, selected: Tensor) -> dict[str, float]:
    """What was chosen, over the response tokens with a covariance.

    - ``selected``: share of them selected
    - ``selected_negative``: share of the selected with A < 0; left out when none is selected
    - ``mean``, ``q50``, ``q98``, ``q99.8``, ``q99.98``: mean and quantiles of the covariance (nats), nearest rank
    - ``selected_weight``: share of ``sum |Cov|`` on the selected; left out when the sum is 0
    """
    readable = ~cov.isnan()
    values, count = cov[readable].sort().values, int(selected.sum())
    if not len(values):
        return {}
    found = {"selected": count / len(values), "mean": float(values.sum()) / len(values)}
    found |= {f"q{share:g}": _rank(values, share / 100) for share in (50, 98, 99.8, 99.98)}
    if count:
        found["selected_negative"] = int((selected & (advantage < 0)).sum()) / count
    whole = float(values.abs().sum())
    return found | ({"selected_weight": float(cov[selected].abs().sum()) / whole} if whole > 0 else {})


def positive_ceiling(logp: Tensor, advantage: Tensor, mask: Tensor) -> float:
    """Highest covariance a token of the largest advantage can have: ``(max A - mean A) * mean(-log p)`` (ours).

    Clip-Cov reaches no token of a right answer when this is below its lower bound, for groups of 8 once
    ``mean(-log p) < 0.40`` nats with the published bound 1.
    """
    kept = mask.bool() & logp.isfinite() & advantage.isfinite()
    if not kept.any():
        return 0.0
    gain, level = advantage[kept].double(), logp[kept].double()
    return float((gain.max() - _mean(gain)) * -_mean(level))
