"""Sums and ranks over a whole batch: the same bits for every order of its tokens, in little memory.

The mean is an integer sum, so that nothing is rounded twice. Batches are read in blocks that stay in cache, each too
small for torch to wake its threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

BLOCK = 1 << 15
SAMPLE = 1 << 16


def row_blocks(values: Tensor) -> Iterator[slice]:
    """Consecutive rows of ``(batch, response)`` with at most 2^15 tokens in a block, or one row."""
    step = max(1, BLOCK // max(1, values.shape[1]))
    return (slice(start, start + step) for start in range(0, values.shape[0], step))


def exact_mean(values: Tensor, kept: Tensor, absolute: bool = False) -> float:
    """Mean of the kept ``(batch, response)`` values, or of their sizes; 0 without any.

    Every value is rounded once, to a multiple of ``2^(b + n - 62)`` for values below ``2^b`` and fewer than ``2^n`` of
    them (1e-10 for 10^7 log-probs down to -20, 4e-15 for a thousand), and the integers are summed: no order of the
    tokens and no split changes a bit.

    Args:
        values: finite where kept.
        kept: ``(batch, response)`` boolean.
    """
    count = int(kept.sum())
    largest = max(float(each.abs().max()) for each in _kept(values, kept)) if count else 0.0
    if largest == 0:
        return 0.0
    bits = min(1000, 62 - count.bit_length() - math.frexp(largest)[1])
    parts = (each.abs() if absolute else each for each in _kept(values, kept))
    total = sum(int((each * 2.0**bits).round().long().sum()) for each in parts)
    return math.ldexp(float(total), -bits) / count


def _kept(values: Tensor, kept: Tensor) -> Iterator[Tensor]:
    """Blocks in fp64 with 0 where nothing is kept."""
    for rows in row_blocks(values):
        wide = values[rows].double()
        yield torch.where(kept[rows], wide, torch.zeros_like(wide))


def ranked(values: Tensor, ranks: Sequence[int]) -> list[float]:
    """The values of these ranks, from 0, among those that are no NaN, whatever their order.

    A sorted sample brackets each, so that only the values in between are copied; where the bracket misses, all are.
    """
    flat = values.flatten()
    sample = flat[:: max(1, len(flat) // SAMPLE)]
    sample = sample[~sample.isnan()].sort().values
    count = int((~flat.isnan()).sum())
    return [_ranked(flat, rank, *_bracket(sample, rank / count)) for rank in ranks]


def _ranked(flat: Tensor, rank: int, low: float, high: float) -> float:
    below = int((flat < low).sum()) if low > -math.inf else 0
    middle = flat[(flat >= low) & (flat <= high)]
    if not below <= rank < below + len(middle):
        middle, below = flat[~flat.isnan()], 0
    return float(middle.kthvalue(rank - below + 1).values)


def quantile(values: Tensor, share: float) -> float:
    """The quantile among those that are no NaN, linear between two ranks as numpy's default; 0 without any.

    ``torch.quantile`` takes at most 2^24 values.
    """
    count = int((~values.isnan()).sum())
    if not count:
        return 0.0
    place = share * (count - 1)
    lower = math.floor(place)
    low, high = ranked(values, [lower, min(lower + 1, count - 1)])
    return low + (high - low) * (place - lower)


def _bracket(sample: Tensor, share: float) -> tuple[float, float]:
    """Bounds between which the quantile lies but for one time in a thousand, from a sorted sample."""
    count = len(sample)
    reach = 4 * math.sqrt(count * share * (1 - share)) + 8
    first, last = math.floor(count * share - reach), math.ceil(count * share + reach)
    low = float(sample[first]) if first >= 0 else -math.inf
    return low, float(sample[last]) if last < count else math.inf
