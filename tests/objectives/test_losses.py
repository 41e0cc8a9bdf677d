"""What every surrogate promises: finite numbers, silence in the padding, nothing broken hidden."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.objectives import PENALTIES, adapo, clip_cov, clip_sides, count_nonfinite, high_from_offset, kl_cov

ONE = torch.ones(1, 1)


def surrogate(ratio, advantage, **options):
    logp = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    options = {"low": 0.2, "high": 0.28} | options
    loss = adapo(logp, torch.zeros(1, 1).double(), torch.tensor([[advantage]]).double(), ONE, **options)
    loss.sum().backward()
    return loss.item(), logp.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.2, 2.0, -2.4, -2.4),
        (1.5, 2.0, -2.56, 0.0),
        (0.5, 2.0, -1.0, -1.0),
        (0.5, -2.0, 1.6, 0.0),
        (0.9, -2.0, 1.8, 1.8),
        (1.5, -2.0, 3.0, 3.0),
        (4.0, -2.0, 6.0, 0.0),
    ],
)
def test_adapo_literal(ratio, advantage, loss, gradient):
    assert surrogate(ratio, advantage) == pytest.approx((loss, gradient), abs=1e-12)


def test_a_higher_bound_keeps_the_gradient():
    assert surrogate(1.5, 2.0, high=0.6) == pytest.approx((-3.0, -3.0))


@pytest.mark.parametrize(("ratio", "advantage", "loss"), [(1.5, -2.0, 2.8), (0.5, 2.0, -1.4)])
def test_the_outer_clip_stops_the_branches_that_the_surrogate_leaves_open(ratio, advantage, loss):
    assert surrogate(ratio, advantage, ratio_bounds=(0.7, 1.4)) == pytest.approx((loss, 0.0))


def test_importance_weights_scale_the_loss():
    args = (torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), torch.ones(1, 2))
    assert adapo(*args, low=0.2, high=0.3, weight=torch.tensor([[0.5, 2.0]])).tolist() == [[-0.5, 2.0]]


def test_dual_must_exceed_one():
    with pytest.raises(ValueError, match="dual=1.0"):
        surrogate(1.0, 1.0, dual=1.0)


def test_high_from_offset():
    assert high_from_offset(0.2, 0.0) == pytest.approx(0.25)
    assert high_from_offset(0.2, 2.5) == pytest.approx(2.75)


def test_clip_sides_literal():
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5, 4.0, 1.0, 1.5]]).double()
    advantage = torch.tensor([[1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0]])
    sides = clip_sides(ratio.log(), torch.zeros(1, 7), advantage, mask, low=0.2, high=0.28, ratio_bounds=(0.1, 3.5))
    assert {name: each[0].nonzero().flatten().tolist() for name, each in sides.items()} == {
        "above_positive": [0],
        "below_negative": [3],
        "above_negative": [2, 4],
        "below_positive": [1],
        "dual": [4],
        "outer": [4],
    }


@pytest.mark.parametrize(
    ("kind", "change", "value", "slope"),
    [
        ("abs", 0.5, 0.5, 1.0),
        ("abs", -0.5, 0.5, -1.0),
        ("abs", 0.0, 0.0, 0.0),
        ("k2", -0.5, 0.125, -0.5),
        ("k2", 0.0, 0.0, 0.0),
        ("k3", 0.5, 0.1487212707, 0.6487212707),
        ("k3", -0.5, 0.1065306597, -0.3934693403),
        ("k3", 0.0, 0.0, 0.0),
    ],
)
def test_penalty_literal(kind, change, value, slope):
    at = torch.tensor(change, dtype=torch.float64, requires_grad=True)
    found = PENALTIES[kind](at)
    found.backward()
    assert (found.item(), at.grad.item()) == pytest.approx((value, slope), abs=1e-10)


def test_k3_is_the_kl_on_the_old_policys_samples():
    old, new = (torch.randn(7, generator=torch.Generator().manual_seed(i)).double().softmax(0) for i in (0, 1))
    expected = (old * (old / new).log()).sum()
    assert float((old * PENALTIES["k3"]((new / old).log())).sum()) == pytest.approx(float(expected), abs=1e-14)


def test_importance_weights_leave_the_penalty_alone():
    logp, zero, both = torch.full((1, 2), math.log(2.0)), torch.zeros(1, 2), torch.ones(1, 2)
    chosen, weight = torch.tensor([[True, False]]), torch.full((1, 2), 0.5)
    args = (logp, zero, both, both, chosen)
    ours, verls = kl_cov(*args, weight=weight), kl_cov(*args, weight=weight, weigh_penalty=True)
    assert ours[0].tolist() == pytest.approx([-1 + math.log(2), -1.0])
    assert verls[0].tolist() == pytest.approx([-1 + math.log(2) / 2, -1.0])


def test_dropped_tokens_give_no_gradient_even_where_the_ratio_overflows():
    logp = torch.tensor([[95.0, 0.0]], requires_grad=True)
    loss = clip_cov(logp, torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2), torch.tensor([[True, False]]))
    loss.sum().backward()
    assert loss.tolist() == [[0.0, -1.0]] and logp.grad.tolist() == [[0.0, -1.0]]


LOSSES = {
    "adapo": lambda *args: adapo(*args[:4], low=0.2, high=0.28),
    "adapo_outer": lambda *args: adapo(*args[:4], low=0.2, high=5.0, ratio_bounds=(0.1, 9.0)),
    "clip_cov": clip_cov,
    **{kind: lambda *args, kind=kind: kl_cov(*args, kind=kind) for kind in PENALTIES},
}
EXTREME = st.sampled_from([-math.inf, -1e4, -95.0, -20.0, -1.0, -1e-4, 0.0])


@st.composite
def batches(draw):
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    matrix = lambda cell: torch.tensor([[draw(cell) for _ in range(width)] for _ in range(rows)])  # noqa: E731
    mask = matrix(st.booleans())
    logp, old = matrix(EXTREME), matrix(EXTREME)
    both = (logp == -math.inf) & (old == -math.inf)  # inf - inf is a NaN, and stays one
    advantage, chosen = matrix(st.sampled_from([-3.0, -0.5, 0.0, 2.0])), matrix(st.booleans())
    return logp, old.masked_fill(both, -1.0), advantage, mask, chosen


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=40, deadline=None)
@given(batches())
def test_loss_and_gradient_are_finite_and_the_padding_is_silent(name, drawn):
    logp, old, advantage, mask, chosen = drawn
    pad = lambda values: values.masked_fill(~mask, math.nan)  # noqa: E731
    logp = pad(logp).requires_grad_()
    loss = LOSSES[name](logp, pad(old), pad(advantage), mask, chosen)
    loss.sum().backward()
    assert loss.shape == mask.shape and loss.isfinite().all() and logp.grad.isfinite().all()
    assert not loss[~mask].any() and not logp.grad[~mask].any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_broken_response_token_is_reported_not_hidden(name):
    logp = torch.tensor([[-1.0, math.nan, math.nan]])
    mask, zero = torch.tensor([[1, 1, 0]]), torch.zeros(1, 3)
    loss = LOSSES[name](logp, zero, zero + 1, mask, zero.bool())
    assert loss[0, 1].isnan() and count_nonfinite(mask, loss) == 1 and count_nonfinite(mask, logp, zero) == 1


def test_both_infinite_is_reported():
    lost = torch.full((1, 1), -math.inf)
    assert count_nonfinite(ONE, adapo(lost, lost, ONE, ONE, low=0.2, high=0.2)) == 1
