"""What annealing is for: a fixed entropy bonus moves the optimum, a penalty on the step from pi_old does not."""

import math

import pytest
import torch

from entropo_plugin.control import scheduled
from entropo_plugin.objectives import kl_cov

VALUES = torch.linspace(0, 1, 32).double()


@pytest.mark.parametrize(("alpha", "gap"), [(0.3, 0.249995), (0.1, 0.084703), (0.03, 0.016707), (0.01, 0.001334)])
def test_a_fixed_bonus_leaves_a_gap(alpha, gap):
    """p ~ exp(Q / alpha) on 32 even values: a truncated geometric law, whose mean has a closed form."""
    p = (VALUES / alpha).softmax(0)
    level = p.log() - (p * p.log()).sum()
    centred = VALUES - (p * VALUES).sum()
    torch.testing.assert_close(centred, alpha * level, rtol=0, atol=1e-12)  # no first-order step is left
    found = float(1 - (p * VALUES).sum())
    assert found == pytest.approx(gap, abs=1e-6) and found <= alpha * math.log(32)


def test_annealing_the_bonus_closes_the_gap():
    gaps = {}
    for kind in ("constant", "linear"):
        z = torch.zeros(32).double()
        for step in range(4000):
            alpha = scheduled(kind, step, 0.2, 0.0, hold=100, steps=3000)
            p = z.softmax(0)
            shaped = VALUES - alpha * p.log()
            z = z + 2.0 * p * (shaped - (p * shaped).sum())
        gaps[kind] = float(1 - (z.softmax(0) * VALUES).sum())
    assert gaps["linear"] < 0.1 * gaps["constant"]


def slope(kind, beta, advantage, change):
    logp = torch.tensor([[change]]).double().requires_grad_()
    one = torch.ones(1, 1).double()
    kl_cov(logp, one * 0, one * advantage, one, one.bool(), beta=beta, kind=kind).sum().backward()
    return logp.grad.item()


@pytest.mark.parametrize("kind", ["abs", "k2", "k3"])
@pytest.mark.parametrize("beta", [0.1, 10.0])
def test_at_pi_old_no_penalty_moves_the_optimum(kind, beta):
    assert slope(kind, beta, 0.7, 0.0) == pytest.approx(-0.7)


def test_the_published_penalty_has_a_dead_zone_that_the_smooth_ones_lack():
    assert slope("abs", 1.0, 0.7, 1e-6) > 0 > slope("abs", 1.0, 0.7, -1e-6)
    for kind in ("k2", "k3"):
        assert slope(kind, 1.0, 0.7, 1e-6) < 0


def test_the_published_penalty_overshoots_its_dead_zone_rather_than_staying_in_it():
    """A = .5 < beta = 1, SGD .1 from pi_old: the first step has no penalty, the later ones jump across 0."""
    logp, one, seen = torch.zeros(1, 1).double().requires_grad_(), torch.ones(1, 1).double(), []
    for _ in range(4):
        loss = kl_cov(logp, one * 0, one * 0.5, one, one.bool(), beta=1.0, kind="abs").sum()
        (gradient,) = torch.autograd.grad(loss, logp)
        logp = (logp - 0.1 * gradient).detach().requires_grad_()
        seen.append(logp.item())
    assert seen == pytest.approx([0.05, 0.003, -0.047, 0.100], abs=6e-4)


@pytest.mark.parametrize("tokens", [1, 3])
def test_the_gap_of_a_fixed_bonus_grows_with_the_number_of_tokens(tokens):
    """T independent tokens of 32, each worth 0 to 1: T times one token's gap, at most alpha T log |V|."""
    alpha = 0.3
    p = (VALUES / alpha).softmax(0)
    values, chances = VALUES, p
    for _ in range(tokens - 1):
        values = (values[:, None] + VALUES).flatten()
        chances = (chances[:, None] * p).flatten()
    gap = float(tokens - (chances * values).sum())
    assert gap == pytest.approx(tokens * 0.249995, abs=1e-5) and gap <= alpha * tokens * math.log(32)


def test_a_fixed_bonus_has_an_equilibrium_with_the_reward():
    """Natural policy gradient reaches p ~ exp(Q / alpha) from more entropy and from less."""
    p = (VALUES / 0.1).softmax(0)
    for start in (torch.zeros(32).double(), 20 * VALUES):
        z = start
        for _ in range(500):
            z = z + 0.5 * (VALUES - 0.1 * z.log_softmax(0))
        q = z.softmax(0)
        assert float(-(q * q.log()).sum()) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-9)
