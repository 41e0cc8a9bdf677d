"""Which tokens the covariance methods act on: one choice for the global batch, the same however the batch is cut.

arXiv 2505.22617 eq. 10-14. The means run over all response tokens of the batch as sums of integers, so that no order
of rows, width of padding or split changes a bit; chance comes from a hash of (seed, step, response, position).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from entropo_plugin.objectives.exact import (
    exact_mean,
    exact_means,
    in_row_blocks,
    marked,
    ranked,
    readable_tokens,
    row_blocks,
)
from entropo_plugin.shapes import same_shape

GOLDEN = 0x9E3779B97F4A7C15
STRIDE = GOLDEN - (1 << 64)
# of the keys' highest bits
BINS = 1 << 12
# of the covariance, in %
QUANTILES = (50, 98, 99.8, 99.98)


class Centre(NamedTuple):
    """What the covariance of a batch is taken about.

    Attributes:
        readable: ``(batch, response)`` boolean, response tokens at which log-prob and advantage are finite.
        logp, advantage: means over them.
    """

    readable: Tensor
    logp: float
    advantage: float


@same_shape("logp", "advantage", "mask")
def centre_of(logp: Tensor, advantage: Tensor, mask: Tensor) -> Centre:
    """:class:`Centre` of a batch, for those who need it twice; arguments as for :func:`covariance`."""
    readable = readable_tokens(mask, logp, advantage)
    return Centre(readable, exact_mean(logp.detach(), readable), exact_mean(advantage.detach(), readable))


@same_shape("logp", "advantage", "mask")
def covariance(logp: Tensor, advantage: Tensor, mask: Tensor, centre: Centre | None = None) -> Tensor:
    """``Cov_i = (log p_i - mean log p) * (A_i - mean A)`` over the response tokens (arXiv 2505.22617, eq. 10).

    Args:
        logp: ``(batch, response)`` log-probs of pi_old, nats.
        advantage: ``(batch, response)`` advantages before any shaping.
        mask: ``(batch, response)`` non-zero on response tokens.
        centre: of this batch, from :func:`centre_of`, where it is known.

    Returns:
        ``(batch, response)`` fp64, detached; NaN in the padding and where an input is not finite. Such tokens enter
        no mean and are never selected.
    """
    readable, mean_logp, mean_advantage = centre or centre_of(logp, advantage, mask)

    def of_block(logp: Tensor, advantage: Tensor, readable: Tensor) -> Tensor:
        product = (logp.double() - mean_logp).mul_(advantage.double() - mean_advantage)
        return product.masked_fill_(~readable, math.nan)

    return in_row_blocks(of_block, logp.detach(), advantage.detach(), readable)


def quota(mask: Tensor, ratio: float) -> int:
    """``floor(ratio * N)`` of the N response tokens, for the ratio as it is written; 0 is a valid answer.

    .29 of 100 tokens is 29, although the binary number nearest to .29 lies below it.
    """
    return math.floor(_as_written(ratio) * int(mask.count_nonzero()))


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
    return ResponseKeys(responses, seed, step)[torch.arange(len(responses))[:, None], torch.arange(width)]


class ResponseKeys:
    """The keys of :func:`token_keys`, computed only where they are asked for: ``keys[rows, positions]``."""

    def __init__(self, responses: Sequence[str], seed: int, step: int) -> None:
        if len(set(responses)) < len(responses):
            raise ValueError("responses: two rows have the same identifier, so their tokens cannot be told apart.")
        starts = [hashlib.blake2b(f"{seed}/{step}/{name}".encode(), digest_size=8).digest() for name in responses]
        self.starts = torch.tensor([int.from_bytes(each, "little", signed=True) for each in starts], dtype=torch.int64)

    def __getitem__(self, place: tuple[Tensor, Tensor]) -> Tensor:
        rows, positions = place
        return _splitmix(self.starts.to(rows.device)[rows] + (positions + 1) * STRIDE)

    def of(self, rows: Tensor) -> ResponseKeys:
        """Those of some responses."""
        chosen = ResponseKeys((), 0, 0)
        chosen.starts = self.starts[rows]
        return chosen


def _splitmix(state: Tensor) -> Tensor:
    """SplitMix64's output function (Steele, Lea and Flood 2014) on int64, whose products wrap as unsigned ones do."""
    state = (state ^ _shift(state, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    state = (state ^ _shift(state, 27)) * (0x94D049BB133111EB - (1 << 64))
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own copies the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


@same_shape("cov", "mask", "keys")
def select_top(cov: Tensor, mask: Tensor, ratio: float, keys: Tensor | ResponseKeys) -> Tensor:
    """KL-Cov's tokens: the ``floor(ratio * N)`` of highest covariance (arXiv 2505.22617, eq. 13).

    Equal ones by smallest key.

    Args:
        cov: ``(batch, response)`` from :func:`covariance`.
        mask: ``(batch, response)`` non-zero on response tokens.
        ratio: share of the response tokens.
        keys: from :func:`token_keys`, or :class:`ResponseKeys`, which needs no memory.

    Returns:
        ``(batch, response)`` boolean.
    """
    mask = mask.bool()
    count = int(in_row_blocks(lambda cov, mask: mask & ~cov.isnan(), cov, mask).count_nonzero())
    wanted = min(quota(mask, ratio), count)
    if wanted == 0:
        return torch.zeros_like(mask)
    edge = ranked(cov, [count - wanted], mask)[0]
    above = in_row_blocks(lambda cov, mask: mask & (cov > edge), cov, mask)
    level = in_row_blocks(lambda cov, mask: mask & (cov == edge), cov, mask)
    return above.logical_or_(_smallest(keys, level, wanted - int(above.count_nonzero())))


@same_shape("cov", "mask", "keys")
def select_band(
    cov: Tensor, mask: Tensor, ratio: float, keys: Tensor | ResponseKeys, low: float, high: float
) -> Tensor:
    """Clip-Cov's tokens: ``floor(ratio * N)`` at random among ``low <= Cov <= high`` (arXiv 2505.22617, eq. 11).

    Chance is the order of the keys. Fewer candidates than wanted are all taken.

    Args:
        low, high: bounds of the covariance, absolute or from :func:`quantile_band`.

    Returns:
        ``(batch, response)`` boolean.
    """
    candidates = in_row_blocks(lambda cov, mask: mask.bool() & (cov >= low) & (cov <= high), cov, mask)
    return _smallest(keys, candidates, quota(mask, ratio))


def _smallest(keys: Tensor | ResponseKeys, among: Tensor, wanted: int) -> Tensor:
    """The ``wanted`` tokens of smallest key among the marked ones.

    A first reading counts the keys by their highest bits, which tells the bin of the last one wanted. A second reading
    takes whatever lies below this bin; only the keys within it are kept and sorted.
    """
    if int(among.count_nonzero()) <= wanted:
        return among
    chosen = torch.zeros_like(among)
    if wanted == 0:
        return chosen
    counts = torch.zeros(BINS, dtype=torch.int64, device=among.device)
    for hashed, _ in _hashed(keys, among):
        counts += _bins(hashed).bincount(minlength=BINS)
    last = int((counts.cumsum(0) < wanted).count_nonzero())
    within = []
    for hashed, place in _hashed(keys, among):
        bins = _bins(hashed)
        chosen[place[0][bins < last], place[1][bins < last]] = True
        within.append(torch.stack((hashed, *place))[:, bins == last])
    hashed, rows, positions = torch.cat(within, 1)
    smallest = hashed.topk(wanted - int(counts[:last].sum()), largest=False).indices
    chosen[rows[smallest], positions[smallest]] = True
    return chosen


def _hashed(keys: Tensor | ResponseKeys, among: Tensor) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Keys, rows and positions of the marked tokens, block by block."""
    for block in row_blocks(among):
        rows, positions = among[block].nonzero(as_tuple=True)
        if len(rows):
            place = rows + block.start, positions
            yield keys[place], place


def _bins(hashed: Tensor) -> Tensor:
    """The order of int64 keys by their highest bits: from 0 to :data:`BINS`."""
    return (hashed >> (64 - BINS.bit_length() + 1)) + BINS // 2


def kl_cov_mask(logp: Tensor, advantage: Tensor, mask: Tensor, ratio: float = 2e-3, seed: int = 0) -> Tensor:
    """KL-Cov's tokens in one call: :func:`select_top` of the :func:`covariance`, with the paper's ratio.

    Args:
        logp, advantage, mask: as for :func:`covariance`.
        ratio: share of the response tokens; ``floor(ratio * N)`` may be 0.
        seed: orders tokens of equal covariance.

    Returns:
        ``(batch, response)`` boolean.
    """
    cov = covariance(logp, advantage, mask)
    return select_top(cov, mask, ratio, _row_keys(cov, seed))


def clip_cov_mask(
    logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    ratio: float = 2e-4,
    low: float = 1.0,
    high: float = 5.0,
    seed: int = 0,
) -> Tensor:
    """Clip-Cov's tokens in one call: :func:`select_band` of the :func:`covariance`, with the paper's ratio and band.

    Args:
        logp, advantage, mask: as for :func:`covariance`.
        ratio: share of the response tokens; ``floor(ratio * N)`` may be 0.
        low, high: bounds of the covariance, absolute or from :func:`quantile_band`.
        seed: of the choice within the band.

    Returns:
        ``(batch, response)`` boolean.
    """
    cov = covariance(logp, advantage, mask)
    return select_band(cov, mask, ratio, _row_keys(cov, seed), low, high)


def _row_keys(cov: Tensor, seed: int) -> ResponseKeys:
    """Keys of responses that are named by their rows."""
    return ResponseKeys([str(row) for row in range(len(cov))], seed, 0)


def quantile_band(cov: Tensor, low: float, high: float) -> tuple[float, float]:
    """The covariances at two quantiles of the batch, by nearest rank: bounds that fit any scale of advantage (ours).

    Absolute bounds tie Clip-Cov to standardised advantages; an empty batch gives a band that holds nothing.
    """
    count = int((~cov.isnan()).count_nonzero())
    if not count:
        return math.inf, -math.inf
    lower, upper = ranked(cov, [_rank(count, low), _rank(count, high)])
    return lower, upper


def _rank(count: int, share: float) -> int:
    """Of a nearest-rank quantile among ``count`` values, from 0."""
    return min(count - 1, max(0, math.ceil(_as_written(share) * count) - 1))


@same_shape("cov", "advantage", "selected")
def selection_metrics(cov: Tensor, advantage: Tensor, selected: Tensor) -> dict[str, float]:
    """What was chosen, over the response tokens with a covariance.

    - ``selected``: share of them selected
    - ``selected_negative``: share of the selected with A < 0; left out when none is selected
    - ``mean``, ``q50``, ``q98``, ``q99.8``, ``q99.98``: mean and quantiles of the covariance (nats), nearest rank
    - ``selected_weight``: share of ``sum |Cov|`` on the selected; left out when the sum is 0
    """
    readable = ~cov.isnan()
    tokens, count = int(readable.count_nonzero()), int(selected.count_nonzero())
    if not tokens:
        return {}
    mean, size = exact_means(cov, readable)
    summary = {"selected": count / tokens, "mean": mean}
    quantiles = ranked(cov, [_rank(tokens, share / 100) for share in QUANTILES])
    summary |= {f"q{share:g}": value for share, value in zip(QUANTILES, quantiles, strict=True)}
    if count:
        summary["selected_negative"] = int((marked(advantage, selected) < 0).count_nonzero()) / count
    whole = size * tokens
    return summary | ({"selected_weight": float(marked(cov, selected).abs_().sum()) / whole} if whole > 0 else {})


@same_shape("logp", "advantage", "mask")
def positive_ceiling(logp: Tensor, advantage: Tensor, mask: Tensor, centre: Centre | None = None) -> float:
    """Highest covariance a token of the largest advantage can have: ``(max A - mean A) * mean(-log p)`` (ours).

    Clip-Cov reaches no token of a right answer when this is below its lower bound, for groups of 8 once
    ``mean(-log p) < 0.40`` nats with the published bound 1.
    """
    kept, mean_logp, mean_advantage = centre or centre_of(logp, advantage, mask)
    if not kept.any():
        return 0.0
    highest = max(float(advantage[rows].masked_fill(~kept[rows], -math.inf).max()) for rows in row_blocks(kept))
    return (highest - mean_advantage) * -mean_logp
