"""The dimensionless law by literal numbers: what a batch pulls, how the loss weighs it, and what never changes it."""

import math
from dataclasses import replace

import pytest
import torch

from entropo_plugin.objectives import (
    EntropyPull,
    PullMemory,
    entropy_pull,
    matched_zeta,
    neutral_step,
    repo_d_beta,
    repo_matched,
    repo_neutral,
    stand_in,
    step_cost,
    token_weights,
)

FRESH = PullMemory()


def two_lengths():
    """Responses of 2 and 40 tokens with A = +1 and -1, and padding that must not be read."""
    mask = torch.zeros(2, 40)
    mask[0, :2], mask[1] = 1, 1
    rows = ((-0.4, 0.6, 1.0), (-0.1, 0.33, -1.0))
    logp, entropy, advantage = (
        torch.tensor(column).double()[:, None].expand(2, 40).clone() for column in zip(*rows, strict=True)
    )
    logp[0, 2:] = entropy[0, 2:] = advantage[0, 2:] = math.nan
    return logp, entropy, advantage, mask


@pytest.mark.parametrize("lost", [-math.inf, -1e4])
def test_an_impossible_token_adds_nothing_and_stays_in_the_number(lost):
    """Three tokens, one of them with p = 0: C = (.5 x 2 x (log .5 + 1) + .25 x -1 x (log .25 + 1)) / 3 = .134475."""
    logp, full = torch.tensor([[math.log(0.5), math.log(0.25), lost]]).double(), torch.ones(1, 3)
    found = entropy_pull(logp, full.double(), torch.tensor([[2.0, -1.0, 3.0]]).double(), full)
    assert found.pull == pytest.approx(0.1344755, abs=1e-6) and found.advantage_size == 2.0
    without = entropy_pull(torch.where(logp < -9, math.nan, logp), full, torch.tensor([[2.0, -1.0, 3.0]]), full)
    assert without.pull == pytest.approx(1.5 * found.pull) and without.advantage_size == 1.5


def batch(seed=0, rows=6, length=9):
    draw = torch.Generator().manual_seed(seed)
    shape = (rows, length)
    logp, entropy = -3 * torch.rand(shape, generator=draw).double(), torch.rand(shape, generator=draw).double()
    return logp, entropy, torch.randn(rows, 1, generator=draw).double().expand(shape), torch.ones(shape)


@pytest.mark.parametrize(
    ("mode", "beta"),
    [
        ("seq-mean-token-mean", -0.99),
        ("token-mean", -4.09),
        ("token-sum", -4.09),
        ("seq-mean-token-sum", -4.09),
        ("seq-mean-token-sum-norm", -4.09),
    ],
)
def test_neutral_beta_depends_on_how_the_loss_weighs_tokens(mode, beta):
    logp, entropy, advantage, mask = two_lengths()
    stats = entropy_pull(logp, entropy, advantage, mask, token_weights(mask, mode))
    assert stats.pull / stats.restoring == pytest.approx(beta, abs=0.005)
    assert neutral_step(stats, FRESH, 0.5, 0.5, 0.5, authority=100, authority_down=100).beta == pytest.approx(
        beta, abs=0.005
    )


def test_an_unknown_way_to_weigh_tokens_is_refused():
    with pytest.raises(ValueError, match="loss_agg_mode='batch-mean'.*take one of .*seq-mean-token-mean"):
        token_weights(torch.ones(1, 1), "batch-mean")


def test_statistics_literal():
    logp = torch.tensor([[math.log(0.5), math.log(0.25), -1.0]], dtype=torch.float64)
    entropy, advantage = torch.tensor([[1.0, 1.0, math.nan]]), torch.tensor([[2.0, -3.0, 1.0]])
    stats = entropy_pull(logp, entropy, advantage, torch.ones(1, 3))
    a, b = 1 - math.log(2), 1 - math.log(4)
    expected = EntropyPull(
        pull=(0.5 * 2 * a - 0.25 * 3 * b) / 2,
        restoring=(0.5 * a * a + 0.25 * b * b) / 2,
        restoring_by_advantage=(0.5 * 2 * a * a + 0.25 * 3 * b * b) / 2,
        pull_size=(0.5 * 2 * a + 0.25 * 3 * -b) / 2,
        advantage_size=2.5,
        logp_size=(a - b) / 2,
    )
    assert vars(stats) == pytest.approx(vars(expected), rel=1e-12)
    raised = entropy_pull(logp, entropy, advantage, torch.ones(1, 3), least=2.5)
    assert raised.restoring_by_advantage == pytest.approx((0.5 * 2.5 * a * a + 0.25 * 3 * b * b) / 2, rel=1e-12)
    assert set(vars(entropy_pull(logp, entropy, advantage, torch.zeros(1, 3))).values()) == {0.0}


STATS = EntropyPull(
    pull=0.02, restoring=0.1, restoring_by_advantage=0.05, pull_size=0.04, advantage_size=0.5, logp_size=0.8
)


def test_neutral_step_literal():
    """beta = (.02 + 10 x .04 x (.9 - 1) / .8) / .1; the bound is .5 / .8."""
    assert neutral_step(STATS, FRESH, 1.0, 0.8, 0.9).beta == pytest.approx(-0.3)
    assert neutral_step(STATS, FRESH, 1.0, 0.8, 0.9, gain=0).beta == pytest.approx(0.2)
    far = neutral_step(STATS, FRESH, 0.1, 0.8, 0.9)
    assert (far.beta, far.at_bound) == (0.625, True)
    down = neutral_step(STATS, FRESH, 2.0, 0.8, 0.9, authority_down=0.25)
    assert (down.beta, down.at_bound) == (-0.25 * 0.625, True)
    assert not neutral_step(STATS, FRESH, 1.0, 0.8, 0.9).at_bound


def test_memory_is_an_exponential_mean_that_begins_with_its_first_signal():
    _, _, memory = neutral_step(replace(STATS, pull_size=0.0, advantage_size=0.0), FRESH, 1.0, 1.0, 1.0)
    assert memory == FRESH
    _, _, memory = neutral_step(STATS, memory, 1.0, 1.0, 1.0)
    assert memory == PullMemory(0.04, 0.5)
    _, _, memory = neutral_step(replace(STATS, pull_size=0.14, advantage_size=1.5), memory, 1.0, 1.0, 1.0)
    assert vars(memory) == pytest.approx({"pull_size": 0.05, "advantage_size": 0.6})


def test_a_batch_of_equal_rewards_keeps_its_authority():
    equal = replace(STATS, pull=0.0, pull_size=0.0, advantage_size=0.0, restoring_by_advantage=0.0)
    assert neutral_step(equal, FRESH, 0.1, 0.8, 0.8).beta == 0.0
    beta, at_bound, memory = neutral_step(equal, PullMemory(0.04, 0.5), 0.1, 0.8, 0.8)
    assert (beta, at_bound) == (pytest.approx(0.9 * 0.5 / 0.8), True) and memory.advantage_size == 0.45


def test_where_no_token_can_move_entropy_beta_is_zero_and_at_its_bound():
    dead = EntropyPull(0.0, 0.0, 0.0, 0.0, 0.5, 0.0)
    assert neutral_step(dead, PullMemory(0.04, 0.5), 0.1, 0.8, 0.8)[:2] == (0.0, True)
    assert neutral_step(dead, FRESH, 0.8, 0.8, 0.8)[:2] == (0.0, False)


@pytest.mark.parametrize("distance", [-0.3, 0.0, 0.02, 0.4])
def test_rewards_times_ten_change_nothing_but_the_unit(distance):
    logp, entropy, advantage, mask = batch()
    small, large = (entropy_pull(logp, entropy, scale * advantage, mask) for scale in (1, 10))
    memories = FRESH, FRESH
    for _ in range(3):
        one, ten = (
            neutral_step(stats, memory, 0.5, 0.5, 0.5 + distance)
            for stats, memory in zip((small, large), memories, strict=True)
        )
        memories = one.memory, ten.memory
        assert ten.beta == pytest.approx(10 * one.beta, rel=1e-12) and ten.at_bound == one.at_bound
    zetas = [matched_zeta(s, FRESH, 0.0, 0.5, 0.5, 0.5 + distance, high=3.0).zeta for s in (small, large)]
    assert zetas[0] == pytest.approx(zetas[1], rel=1e-12)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_on_target_the_shaped_batch_costs_no_entropy(mode):
    logp, entropy, advantage, mask = batch()
    mask[0, 2:] = 0
    weight, centred = token_weights(mask, mode), stand_in(logp, entropy)
    stats = entropy_pull(logp, entropy, advantage, mask, weight)
    beta = neutral_step(stats, FRESH, 0.5, 0.5, 0.5, authority=100, authority_down=100).beta
    zeta = matched_zeta(stats, FRESH, 0.0, 0.5, 0.5, 0.5, high=100).zeta
    shaped = repo_neutral(advantage, centred, beta), repo_matched(advantage, centred, zeta)
    for each in shaped:
        assert abs(entropy_pull(logp, entropy, each, mask, weight).pull) < 1e-15


def test_matched_zeta_literal():
    """(.02 + 10 x .04 x (.9 - 1) / .8) / .05"""
    assert matched_zeta(STATS, FRESH, 9.0, 1.0, 0.8, 0.9, high=3.0)[:3] == (pytest.approx(-0.6), False, False)
    assert matched_zeta(STATS, FRESH, 9.0, 0.1, 0.8, 0.9, high=3.0)[:3] == (3.0, True, False)
    assert matched_zeta(STATS, FRESH, 9.0, 2.0, 0.8, 0.9, high=3.0)[:3] == (-3.0, True, False)


def test_matched_zeta_is_held_where_every_advantage_is_zero():
    equal = replace(STATS, pull=0.0, pull_size=0.0, advantage_size=0.0, restoring_by_advantage=0.0)
    assert matched_zeta(equal, FRESH, 0.7, 0.1, 0.8, 0.9, high=3.0)[:3] == (0.7, False, True)


def test_the_step_cost_of_the_old_law_is_the_pull():
    logp, entropy, advantage, mask = batch()
    assert entropy_pull(logp, entropy, advantage, mask).pull == pytest.approx(
        float(step_cost(advantage, logp, entropy, mask)), rel=1e-14
    )


@pytest.mark.parametrize(("zeta", "change"), [(-10, -0.193), (0, 0.110), (10, 0.413)])
def test_repo_d_steers_both_ways_where_the_batch_gains_entropy(zeta, change):
    """One state, p = softmax(3, 0, 0, 0, 0, 0), reward against the likely token: C < 0; dH per learning rate."""
    z, advantage = torch.tensor([3.0, 0, 0, 0, 0, 0]).double(), torch.tensor([-1.0, 0.2, 0.2, 0.2, 0.2, 0.2]).double()
    p = z.softmax(0)
    centred = p.log() - (p * p.log()).sum()
    pull = float((p * p * (advantage - (p * advantage).sum()) * centred).sum())
    assert pull < 0
    shaped = advantage - repo_d_beta(pull, zeta) * centred
    step = p * (shaped - (p * shaped).sum())
    assert float(-(p * centred * step).sum()) == pytest.approx(change, abs=5e-4)
