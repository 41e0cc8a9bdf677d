"""Clip-Cov and KL-Cov: golden vector, and the choice of tokens however the batch is arranged."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.objectives import (
    clip_cov,
    covariance,
    kl_cov,
    micro_band,
    micro_top,
    positive_ceiling,
    quantile_band,
    select_band,
    select_top,
    selection_metrics,
    token_keys,
)
from entropo_plugin.objectives.selection import STRIDE, _splitmix, quota

OLD = torch.tensor([[-0.1, -2, -0.05, -3], [-0.2, -4, -0.01, -9]])
LOGP = torch.tensor([[-0.12, -1.8, -0.05, -3.3], [-0.2, -4.5, -0.02, -9]])
ADVANTAGE = torch.tensor([[1.5] * 4, [-0.5] * 4])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
KEYS = token_keys(["a", "b"], 4, 0, 0)
# worked in plain integers modulo 2^64
GOLDEN_KEYS = [
    [-1025091589697202862, 3253110309775554758, 2773715457848955461],
    [5473973882719287164, 8763109138111819542, -5327673776167260323],
]


def mean(loss):
    return float((loss * MASK).sum() / MASK.sum())


def test_golden_covariance():
    cov = covariance(LOGP, ADVANTAGE, MASK)
    expected = [1.120408, -0.319592, 1.180408, -1.605306, -1.402449, 3.511837, -1.608163]
    assert cov.dtype == torch.float64 and cov[1, 3].isnan()
    assert cov[MASK.bool()].tolist() == pytest.approx(expected, abs=1e-6)


def test_golden_clip_cov():
    chosen = select_band(covariance(LOGP, ADVANTAGE, MASK), MASK, 0.5, KEYS, 1.0, 5.0)
    assert chosen.nonzero().tolist() == [[0, 0], [0, 2], [1, 1]]
    assert mean(clip_cov(LOGP, OLD, ADVANTAGE, MASK, chosen)) == pytest.approx(-0.2783296, abs=1e-6)


@pytest.mark.parametrize(("beta", "expected"), [(1.0, -0.5879058), (0.1, -0.6521915)])
def test_golden_kl_cov(beta, expected):
    chosen = select_top(covariance(LOGP, ADVANTAGE, MASK), MASK, 0.3, KEYS)
    assert mean(kl_cov(LOGP, OLD, ADVANTAGE, MASK, chosen, beta=beta)) == pytest.approx(expected, abs=1e-6)


def test_hash_is_splitmix64():
    # the first two outputs of the published generator started at 0
    found = _splitmix(torch.tensor([1, 2]) * STRIDE)
    assert [int(each) % 2**64 for each in found] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_keys_are_the_same_everywhere():
    keys = token_keys(["prompt-1_0", "prompt-1_1"], 3, seed=7, step=11)
    assert keys.tolist() == GOLDEN_KEYS
    assert torch.equal(token_keys(["prompt-1_1"], 2, 7, 11), keys[1:, :2])
    for seed, step in ((8, 11), (7, 12)):
        assert not (token_keys(["prompt-1_0", "prompt-1_1"], 3, seed, step) == keys).any()


def test_keys_refuse_two_responses_of_one_name():
    with pytest.raises(ValueError, match="same identifier"):
        token_keys(["a", "a"], 3, 0, 0)


def test_chance_is_uniform():
    cov, mask = torch.zeros(64, 64).double(), torch.ones(64, 64)
    keys = token_keys([str(i) for i in range(64)], 64, 3, 5)
    chosen = select_band(cov, mask, 0.25, keys, -1, 1)
    assert int(chosen.sum()) == 1024
    for counts in (chosen.sum(0), chosen.sum(1)):
        assert float(((counts - 16.0) ** 2 / 12).sum()) < 110  # chi-squared, 63 degrees of freedom, p < 3e-4


def batch(seed, rows=8, width=12):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows,), generator=draw)
    mask = (torch.arange(width)[None] < lengths[:, None]).long()
    # coarse values, so that covariances are equal often and the tie-break has to work
    logp = -torch.randint(0, 6, (rows, width), generator=draw) * 0.7
    advantage = torch.randint(-2, 3, (rows, 1), generator=draw).expand(rows, width) * 0.9
    return logp, advantage, mask, [f"r{i}" for i in range(rows)]


def choose(logp, advantage, mask, names, ratio=0.15):
    cov, keys = covariance(logp, advantage, mask), token_keys(names, mask.shape[1], 1, 2)
    low, high = quantile_band(cov, 0.3, 0.9)
    return select_top(cov, mask, ratio, keys), select_band(cov, mask, ratio, keys, low, high)


def named(chosen, names):
    return {(names[row], place) for row, place in chosen.nonzero().tolist()}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(8)), st.integers(0, 9))
def test_choice_is_the_same_for_any_order_and_width(seed, order, extra):
    logp, advantage, mask, names = batch(seed)
    wide = [torch.nn.functional.pad(x[list(order)], (0, extra), value=v) for x, v in
            ((logp, math.nan), (advantage, math.nan), (mask, 0))]  # fmt: skip
    moved = [names[i] for i in order]
    for here, there in zip(choose(logp, advantage, mask, names), choose(*wide, moved), strict=True):
        assert named(here, names) == named(there, moved)


@pytest.mark.parametrize("size", [1, 2, 4, 8, "dynamic"])
def test_loss_and_gradient_are_the_same_for_any_micro_batch(size):
    old, advantage, mask, names = batch(3)
    old, advantage = old.double(), advantage.double()
    chosen = choose(old, advantage, mask, names)
    parts = [[5, 0], [1], [7, 2, 3], [4, 6]] if size == "dynamic" else torch.arange(8).split(size)
    logp = (old + 0.1 * torch.sin(torch.arange(96.0)).view(8, 12)).requires_grad_()

    def run(rows):
        top, band = (each[rows] for each in chosen)
        args = (logp[rows], old[rows], advantage[rows], mask[rows])
        return kl_cov(*args, top).sum() + clip_cov(*args, band).sum()

    (whole,) = torch.autograd.grad(run(torch.arange(8)), logp)
    (cut,) = torch.autograd.grad(sum(run(rows) for rows in parts), logp)
    assert torch.equal(whole, cut)


@pytest.mark.parametrize("chooser", [micro_top, lambda logp, *rest: micro_band(logp, logp, *rest, (1.0, 5.0))])
def test_a_choice_by_micro_batch_depends_on_the_cut(chooser):
    torch.manual_seed(0)
    logp, mask = -torch.rand(64, 32) * 5, torch.ones(64, 32)
    advantage = torch.randn(64, 1).expand(64, 32)
    counts = [sum(int(chooser(*p, 0.003).sum()) for p in zip(*(x.split(n) for x in (logp, advantage, mask)),
              strict=True)) for n in (64, 8, 1)]  # fmt: skip
    assert counts[0] == 6 and counts[1] == 8 and counts[2] in (0, 64)


@pytest.mark.parametrize("ratio", [0.0, -0.0])
def test_a_ratio_of_zero_chooses_no_token_by_micro_batch_either(ratio):
    """verl's own takes at least one, of any ratio above 0; a schedule may end at 0."""
    logp, advantage = torch.tensor([[-1.0, -3.0], [-0.5, -2.0]]), torch.tensor([[1.0], [-1.0]]).expand(2, 2)
    full = torch.ones(2, 2)
    assert [int(micro_top(logp, advantage, full, each).sum()) for each in (ratio, 1e-9, 0.5)] == [0, 1, 2]
    band = (-9.0, 9.0)
    assert [int(micro_band(logp, logp, advantage, full, each, band).sum()) for each in (ratio, 1e-9, 0.5)] == [0, 1, 2]


def test_quota_is_the_floor_and_may_be_zero():
    cov = covariance(LOGP, ADVANTAGE, MASK)
    assert [int(select_top(cov, MASK, r, KEYS).sum()) for r in (0.0, 0.14, 0.15, 0.29, 1.0)] == [0, 0, 1, 2, 7]
    assert [int(select_band(cov, MASK, r, KEYS, 1, 5).sum()) for r in (0.0, 0.14, 0.29, 1.0)] == [0, 0, 2, 3]
    nothing = torch.zeros_like(MASK)
    assert not select_top(covariance(LOGP, ADVANTAGE, nothing), nothing, 1.0, KEYS).any()


def test_unreadable_tokens_are_never_chosen_and_enter_no_mean():
    logp = LOGP.clone()
    logp[0, 1] = -math.inf
    mask = MASK.clone()
    mask[0, 1] = 0
    found, without = covariance(logp, ADVANTAGE, MASK), covariance(LOGP, ADVANTAGE, mask)
    assert torch.equal(found.nan_to_num(9), without.nan_to_num(9))
    assert not select_top(found, MASK, 1.0, KEYS)[0, 1]


def test_quantile_band_is_nearest_rank():
    cov = torch.tensor([[3.0, 1.0, 2.0, 4.0, math.nan]]).double()
    assert quantile_band(cov, 0.5, 1.0) == (2.0, 4.0)
    assert quantile_band(cov, 0.0, 0.51) == (1.0, 3.0)
    assert quantile_band(cov * math.nan, 0.1, 0.9) == (math.inf, -math.inf)


def test_metrics_literal():
    cov = torch.tensor([[3.0, -1.0], [2.0, math.nan]]).double()
    chosen = torch.tensor([[True, False], [True, False]])
    found = selection_metrics(cov, torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), chosen)
    assert found == pytest.approx(
        {"selected": 2 / 3, "mean": 4 / 3, "q50": 2.0, "q98": 3.0, "q99.8": 3.0, "q99.98": 3.0,
         "selected_negative": 0.5, "selected_weight": 5 / 6}
    )  # fmt: skip
    assert selection_metrics(cov * math.nan, cov, chosen & False) == {}


def test_groups_of_eight_reach_no_positive_token_below_two_fifths_of_a_nat():
    # one right answer of eight, standardised: 7 / sqrt(8) with the unbiased standard deviation
    advantage = torch.tensor([7 / math.sqrt(8)] + [-1 / math.sqrt(8)] * 7)[:, None]
    ceilings = [positive_ceiling(torch.full((8, 1), -x), advantage, torch.ones(8, 1)) for x in (0.40, 0.41)]
    assert ceilings == pytest.approx([0.98995, 1.0147], abs=1e-4)


@pytest.mark.parametrize(
    ("ratio", "tokens", "chosen"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.07, 100, 7), (2e-4, 5000, 1), (0.1, 9, 0), (1.0, 7, 7), (1e-05, 100000, 1)],
)
def test_the_quota_is_that_of_the_ratio_as_written(ratio, tokens, chosen):
    assert quota(torch.ones(1, tokens), ratio) == chosen


def test_a_quantiles_rank_is_that_of_the_share_as_written():
    """.07 of 100 values is the seventh, although .07 * 100 is a little above 7 in binary."""
    assert quantile_band(torch.arange(1.0, 101.0)[None], 0.07, 0.29) == (7.0, 29.0)
