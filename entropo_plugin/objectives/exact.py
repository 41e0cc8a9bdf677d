"""Sums and ranks over a whole batch: the same bits for every order of its tokens, in little memory.

The mean is an integer sum, so that nothing is rounded twice. Batches are read in blocks of rows: what is computed from
a block stays in cache and costs no memory of the batch's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

BLOCK = 1 << 15
SAMPLE = 1 << 16
# Brackets of ranks that are closer than this share of the sample are read as one.
NEAR = 1 / 32


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's operations on the calling thread: blocks are so small that waking others costs more than it saves.

    Sums of floating-point numbers then have the same bits for every number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def row_blocks(values: Tensor) -> Iterator[slice]:
    """Consecutive rows of ``(batch, response)`` with at most 2^15 tokens in a block, or one row."""
    step = max(1, BLOCK // max(1, values.shape[1]))
    return (slice(start, start + step) for start in range(0, values.shape[0], step))


def in_row_blocks(function: Callable[..., Tensor], *fields: Tensor) -> Tensor:
    """``function(*fields)`` of a function that treats every token by itself, computed block by block.

    Args:
        function: of as many ``(rows, response)`` blocks; gives one of the same shape.
        fields: ``(batch, response)``.
    """
    made: Tensor | None = None
    for rows in row_blocks(fields[0]):
        block = function(*(each[rows] for each in fields))
        made = block.new_empty(fields[0].shape) if made is None else made
        made[rows] = block
    return function(*fields) if made is None else made


def marked(values: Tensor, marks: Tensor) -> Tensor:
    """``values[marks]``, whose indices exist for one block at a time."""
    parts = [values[rows][marks[rows]] for rows in row_blocks(marks)]
    return torch.cat(parts) if parts else values.flatten()


def finite(values: Tensor) -> Tensor:
    """As ``isfinite``, which takes twice as long on a CPU because it is not vectorised."""
    return values.abs() < math.inf


def readable_tokens(mask: Tensor, *fields: Tensor) -> Tensor:
    """``(batch, response)`` boolean: response tokens at which every field is finite."""

    def readable(mask: Tensor, *fields: Tensor) -> Tensor:
        kept = mask.bool()
        for each in fields:
            kept = kept & finite(each)
        return kept

    return in_row_blocks(readable, mask, *fields)


def exact_mean(values: Tensor, kept: Tensor, absolute: bool = False) -> float:
    """Mean of the kept ``(batch, response)`` values, or of their sizes; 0 without any.

    Every value is rounded once, to a multiple of ``2^(b + n - 62)`` for values below ``2^b`` and fewer than ``2^n`` of
    them (1e-10 for 10^7 log-probs down to -20, 4e-15 for a thousand), and the integers are summed: no order of the
    tokens and no split changes a bit.

    Args:
        values: finite where kept.
        kept: ``(batch, response)`` boolean.
    """
    return exact_means(values, kept, (absolute,))[0]


def exact_means(values: Tensor, kept: Tensor, absolute: Sequence[bool] = (False, True)) -> list[float]:
    """:func:`exact_mean` for each of ``absolute``, in one reading: of the values and of their sizes."""
    count = int(kept.count_nonzero())
    largest = max(float(each.abs().amax()) for each in _kept(values, kept)) if count else 0.0
    if largest == 0:
        return [0.0] * len(absolute)
    bits = min(1000, 62 - count.bit_length() - math.frexp(largest)[1])
    totals = [0] * len(absolute)
    for each in _kept(values, kept):
        whole = each.double().mul_(2.0**bits).round_().long()
        sums = (int((whole.abs() if sizes else whole).sum()) for sizes in absolute)
        totals = [before + more for before, more in zip(totals, sums, strict=True)]
    return [math.ldexp(float(total), -bits) / count for total in totals]


def _kept(values: Tensor, kept: Tensor) -> Iterator[Tensor]:
    """Blocks with 0 where nothing is kept."""
    return (torch.where(kept[rows], values[rows], 0) for rows in row_blocks(values))


def ranked(values: Tensor, ranks: Sequence[int], kept: Tensor | None = None) -> list[float]:
    """The values of these ranks, from 0, among the kept ones that are no NaN, whatever their order.

    A sorted sample brackets each, so that only the values in between are copied; where the bracket misses, all are.

    Args:
        values: ``(batch, response)``.
        ranks: each below the number of values to choose from.
        kept: ``(batch, response)`` boolean; None keeps all.
    """
    spans = _spans(values, ranks, kept)
    for block in _numbers(values, kept):
        for span in spans:
            span.read(block)
    found = {rank: span.value(rank) for span in spans for rank in span.ranks}
    if None in found.values():
        whole = torch.cat([block[~block.isnan()] for block in _numbers(values, kept)])
        found = {rank: float(whole.kthvalue(rank + 1).values) for rank in ranks}
    return [value for rank in ranks if (value := found[rank]) is not None]


def _numbers(values: Tensor, kept: Tensor | None) -> Iterator[Tensor]:
    """Flat blocks with NaN where nothing is kept."""
    for rows in row_blocks(values):
        block = values[rows].flatten()
        yield block if kept is None else block.masked_fill(~kept[rows].flatten(), math.nan)


@dataclass
class _Span:
    """An interval that should hold the values of some ranks, and what a reading of all values finds in it."""

    low: float
    high: float
    ranks: list[int]
    below: int = 0
    inside: int = 0
    between: list[Tensor] = field(default_factory=list)

    def read(self, block: Tensor) -> None:
        self.below += int((block < self.low).count_nonzero())
        inside = (block >= self.low) & (block <= self.high)
        if self.low == self.high:
            self.inside += int(inside.count_nonzero())
        else:
            self.between.append(block[inside])
            self.inside += len(self.between[-1])

    def value(self, rank: int) -> float | None:
        """None where the interval does not hold it."""
        if not self.below <= rank < self.below + self.inside:
            return None
        if self.low == self.high:
            return self.low
        self.between = [torch.cat(self.between)]
        return float(self.between[0].kthvalue(rank - self.below + 1).values)


def _spans(values: Tensor, ranks: Sequence[int], kept: Tensor | None) -> list[_Span]:
    """One interval for ranks that lie close together, from a sorted sample."""
    count = sum(int((~block.isnan()).count_nonzero()) for block in _numbers(values, kept))
    step = max(1, values.numel() // SAMPLE)
    sample = values.flatten()[::step]
    if kept is not None:
        sample = sample.masked_fill(~kept.flatten()[::step], math.nan)
    sample = sample[~sample.isnan()].sort().values
    groups: list[tuple[int, int, list[int]]] = []
    for rank in sorted(set(ranks)):
        first, last = _bracket(len(sample), rank / count)
        if groups and first - groups[-1][1] < NEAR * len(sample):
            first, _, near = groups.pop()
            groups.append((first, last, [*near, rank]))
        else:
            groups.append((first, last, [rank]))
    return [_Span(_at(sample, first, -math.inf), _at(sample, last, math.inf), near) for first, last, near in groups]


def _bracket(count: int, share: float) -> tuple[int, int]:
    """Places in a sorted sample between which the quantile lies but for one time in ten thousand."""
    reach = 4 * math.sqrt(count * share * (1 - share)) + 8
    return math.floor(count * share - reach), math.ceil(count * share + reach)


def _at(sample: Tensor, place: int, outside: float) -> float:
    return float(sample[place]) if 0 <= place < len(sample) else outside


def quantile(values: Tensor, share: float, kept: Tensor | None = None) -> float:
    """The quantile among the kept values that are no NaN, linear between two ranks as numpy's default; 0 without any.

    ``torch.quantile`` takes at most 2^24 values.
    """
    count = sum(int((~block.isnan()).count_nonzero()) for block in _numbers(values, kept))
    if not count:
        return 0.0
    place = share * (count - 1)
    lower = math.floor(place)
    low, high = ranked(values, [lower, min(lower + 1, count - 1)], kept)
    return low + (high - low) * (place - lower)
