"""The row blocks, brackets and bins of the driver's statistics against the simple version: whole tensors and sorts."""

import math
from fractions import Fraction

import pytest
import torch

from entropo_plugin.objectives import (
    ResponseKeys,
    centre_of,
    covariance,
    entropy_pull,
    positive_ceiling,
    response_weights,
    select_band,
    select_top,
    selection_metrics,
    token_keys,
    token_weights,
)
from entropo_plugin.objectives import exact as blocks
from entropo_plugin.objectives.exact import exact_mean, in_row_blocks, marked, one_thread, quantile, ranked
from entropo_plugin.objectives.selection import BINS, QUANTILES

SHAPES = [(1, 3), (7, 501), (40, 2048), (2, 35_000)]
KINDS = ["whole", "padded", "ties", "broken"]


def batch(shape, kind):
    """Log-probs, advantages and a mask; what stands in the padding is never read."""
    draw = torch.Generator().manual_seed(len(kind) + shape[1])
    logp, advantage = -5 * torch.rand(shape, generator=draw) ** 4, torch.randn(shape[0], 1, generator=draw)
    advantage, mask = advantage.expand(shape).contiguous(), torch.ones(shape)
    if kind != "whole":
        mask = (torch.arange(shape[1]) < torch.randint(1, shape[1] + 1, (shape[0], 1), generator=draw)).long()
        logp[mask == 0] = math.nan
    if kind == "ties":
        logp, advantage = (2 * logp).round() / 2, advantage.sign()
    if kind == "broken":
        logp[torch.rand(shape, generator=draw) < 0.01] = -math.inf
        advantage[0, ::9] = math.inf
    return logp, advantage, mask


def simple_mean(values, kept):
    """As exact_mean describes it: every value rounded once to a multiple of 2^(b + n - 62), then integers."""
    chosen = values[kept].double()
    if not chosen.abs().max() > 0:
        return 0.0
    bits = 62 - len(chosen).bit_length() - math.frexp(float(chosen.abs().max()))[1]
    return math.ldexp(float(sum(round(each * 2.0**bits) for each in chosen.tolist())), -bits) / len(chosen)


def simple_covariance(logp, advantage, mask):
    kept = mask.bool() & logp.isfinite() & advantage.isfinite()
    cov = (logp.double() - exact_mean(logp, kept)) * (advantage.double() - exact_mean(advantage, kept))
    return torch.where(kept, cov, torch.nan)


def simple_choice(order, wanted, shape):
    """The first tokens of an order of flat places."""
    chosen = torch.zeros(shape, dtype=torch.bool)
    chosen.view(-1)[order[:wanted]] = True
    return chosen


def places(shape):
    """Keys and flat places, the places sorted by key."""
    keys = token_keys([f"r{row}" for row in range(shape[0])], shape[1], 3, 4)
    return keys, keys.flatten().argsort()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_covariance_and_its_means(shape, kind):
    logp, advantage, mask = batch(shape, kind)
    cov, centre = covariance(logp, advantage, mask), centre_of(logp, advantage, mask)
    assert torch.equal(cov.nan_to_num(9), simple_covariance(logp, advantage, mask).nan_to_num(9))
    assert (centre.logp, centre.advantage) == (
        simple_mean(logp, centre.readable),
        simple_mean(advantage, centre.readable),
    )
    assert positive_ceiling(logp, advantage, mask, centre) == positive_ceiling(logp, advantage, mask)


@pytest.mark.parametrize("ratio", [0.0, 0.0002, 0.6, 1.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_highest_covariances(shape, kind, ratio):
    logp, advantage, mask = batch(shape, kind)
    cov, (keys, by_key) = covariance(logp, advantage, mask), places(shape)
    level = cov.flatten()[by_key].nan_to_num(-math.inf)
    order = by_key[level.argsort(descending=True, stable=True)]
    wanted = min(math.floor(Fraction(str(ratio)) * int(mask.sum())), int((~cov.isnan()).sum()))
    assert torch.equal(select_top(cov, mask, ratio, keys), simple_choice(order, wanted, shape))


@pytest.mark.parametrize("band", [(-math.inf, math.inf), (0.1, 5.0), (9.0, 9.5)])
@pytest.mark.parametrize("ratio", [0.0002, 0.03, 1.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_band_of_smallest_keys(shape, kind, ratio, band):
    logp, advantage, mask = batch(shape, kind)
    cov, (keys, by_key) = covariance(logp, advantage, mask), places(shape)
    inside = ((cov >= band[0]) & (cov <= band[1])).flatten()
    order, wanted = by_key[inside[by_key]], math.floor(Fraction(str(ratio)) * int(mask.sum()))
    lazy = ResponseKeys([f"r{row}" for row in range(shape[0])], 3, 4)
    for each in (keys, lazy):
        assert torch.equal(select_band(cov, mask, ratio, each, *band), simple_choice(order, wanted, shape))


def test_keys_of_one_bin_are_sorted_among_themselves():
    """Every key in the same bin, and the smallest and largest int64 in bins of their own."""
    cov, mask = torch.zeros(1, 6).double(), torch.ones(1, 6)
    keys = torch.tensor([[5, 4, 3, 2, 1, 0]])
    assert select_band(cov, mask, 0.5, keys, 0, 0).tolist() == [[False, False, False, True, True, True]]
    keys = torch.tensor([[2**63 - 1, 0, -(2**63), 7, -1, (1 << 63) // BINS]])
    assert select_band(cov, mask, 0.5, keys, 0, 0).tolist() == [[False, True, True, False, True, False]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_metrics_of_a_choice(shape, kind):
    logp, advantage, mask = batch(shape, kind)
    cov = covariance(logp, advantage, mask)
    chosen = select_top(cov, mask, 0.4, places(shape)[0])
    readable = cov[~cov.isnan()]
    ordered, found = readable.sort().values, selection_metrics(cov, advantage, chosen)
    ranks = [math.ceil(Fraction(str(share)) * len(ordered) / 100) - 1 for share in QUANTILES]
    assert [found[f"q{share:g}"] for share in QUANTILES] == ordered[ranks].tolist()
    assert found["mean"] == simple_mean(cov, ~cov.isnan())
    if chosen.any() and readable.any():
        assert found["selected_weight"] == pytest.approx(float(cov[chosen].abs().sum() / readable.abs().sum()))
        assert found["selected_negative"] == float((advantage[chosen] < 0).double().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_among_the_kept(kind):
    logp, _, mask = batch((40, 2048), kind)
    kept = mask.bool()
    ordered = logp[kept & ~logp.isnan()].sort().values
    ranks = [0, 1, len(ordered) // 2, len(ordered) // 2 + 1, len(ordered) - 1, 0]
    assert ranked(logp, ranks, kept) == ordered[ranks].tolist()
    alone = logp.masked_fill(~kept, math.nan)
    assert quantile(logp, 0.8, kept) == quantile(alone, 0.8)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_a_weight_for_every_response_is_one_for_every_token(mode):
    logp, advantage, mask = batch((40, 2048), "padded")
    whole, each = token_weights(mask, mode), response_weights(mask, mode)
    assert torch.equal(whole, each * mask) and float(whole.sum()) == pytest.approx(1, rel=1e-12)
    fields = logp.nan_to_num(0), torch.rand(logp.shape), advantage, mask
    assert entropy_pull(*fields, whole) == entropy_pull(*fields, each.expand(mask.shape))


def test_blocks_of_an_elementwise_function_are_the_whole(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    values = torch.arange(35.0).view(7, 5)
    assert torch.equal(in_row_blocks(lambda a, b: a.double() * b, values, values), values.double() * values)
    assert torch.equal(marked(values, values % 3 == 0), values[values % 3 == 0])
    assert in_row_blocks(lambda a: a > 0, values[:0]).shape == (0, 5)


def test_the_number_of_threads_comes_back():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
