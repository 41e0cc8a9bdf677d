"""CE-GPPO: literal numbers, gradients inside and beyond the clip, and where it cannot act."""

import math

import pytest
import torch
from golden import ADVANTAGE, LOGP, MASK, OLD, N, run_of, token_mean, train, vanilla

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import remarks
from entropo_plugin.objectives import ce_gppo


def loss(logp, low=0.2, high=0.28, keep_low=0.5, keep_high=1.0, **more):
    bounds = dict(low=low, high=high, keep_low=keep_low, keep_high=keep_high)
    return token_mean(ce_gppo(logp, OLD, ADVANTAGE, MASK, **bounds, **more))


def test_the_golden_loss_and_gradient():
    assert float(loss(LOGP)) == pytest.approx(-0.674086, abs=1e-6)
    logp = LOGP.clone().requires_grad_()
    value = loss(logp, high=0.2)
    (gradient,) = torch.autograd.grad(value, logp)
    assert float(value.detach()) == pytest.approx(-0.669500, abs=1e-6)
    expected = [[-0.210043, -0.257143, -0.214286, -0.158747], [0.071429, 0.028571, 0.070718, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_with_nothing_kept_the_gradient_is_ppos():
    ours, ppos = LOGP.clone().requires_grad_(), LOGP.clone().requires_grad_()
    (one,) = torch.autograd.grad(loss(ours, keep_low=0.0, keep_high=0.0), ours)
    (other,) = torch.autograd.grad(vanilla(ppos, ADVANTAGE), ppos)
    torch.testing.assert_close(one, other)


def test_at_ratio_1_it_is_verls_vanilla_to_the_last_bit():
    both = []
    for of in (loss, lambda logp: vanilla(logp, ADVANTAGE)):
        logp = OLD.clone().requires_grad_()
        value = of(logp)
        both += [value.detach(), torch.autograd.grad(value, logp)[0]]
    assert torch.equal(both[0], both[2]) and torch.equal(both[1], both[3])


def test_inside_the_clip_finite_differences_agree():
    assert torch.autograd.gradcheck(
        lambda x: ce_gppo(x, OLD, ADVANTAGE, MASK, low=0.9, high=9.0, keep_low=0.5, keep_high=1.0),
        LOGP.clone().requires_grad_(),
    )


def test_the_dual_clip_comes_after():
    """r = e^2 with A < 0: the loss is 3 * 0.5 and has no gradient."""
    logp = OLD.clone()
    logp[1, 0] += 2.0
    logp.requires_grad_()
    matrix = ce_gppo(logp, OLD, ADVANTAGE, MASK, low=0.2, high=0.28, keep_low=0.5, keep_high=1.0)
    assert float(matrix[1, 0].detach()) == 1.5
    assert float(torch.autograd.grad(matrix.sum(), logp)[0][1, 0]) == 0


def test_importance_weights_and_padding():
    assert float(loss(LOGP, weight=torch.full_like(LOGP, 0.5))) == pytest.approx(-0.674086 / 2, abs=1e-6)
    broken = LOGP.clone()
    broken[1, 3] = math.nan
    assert float(loss(broken)) == float(loss(LOGP))
    assert N == 7


def test_through_verl_the_first_update_is_vanillas_and_the_second_is_not(monkeypatch):
    leaves = {"entropo__ce_gppo__clip_low": 0.02, "entropo__ce_gppo__clip_high": 0.02}
    ours, metrics = train(monkeypatch, "+entropo=ce_gppo", **leaves)
    other, _ = train(monkeypatch)
    assert ours.ranks.losses[0] == other.ranks.losses[0] and torch.equal(*(t.ranks.gradients[0] for t in (ours, other)))
    assert ours.ranks.losses[1] != other.ranks.losses[1] and metrics["entropo/clip/above_positive"] > 0


def test_it_says_where_it_cannot_act():
    assert "equals vanilla" in next(iter(remarks(run_of("ce_gppo", facts={"updates": 1}).methods)))
    (method,) = run_of("ce_gppo").methods
    assert set(method.idle()) == {"entropo/clip/above_positive", "entropo/clip/below_negative"}
    with pytest.raises(ConfigError, match="loss_mode=cispo: CE-GPPO has a policy loss of its own"):
        run_of("ce_gppo", facts={"loss_mode": "cispo"})


@pytest.mark.parametrize(
    "settings", [{"keep_low": -1.0}, {"clip_low": 1.0}, {"clip_high": -0.1}, {"clip_ratio_c": 1.0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="entropo.ce_gppo.*out of range"):
        parse({"ce_gppo": settings})
