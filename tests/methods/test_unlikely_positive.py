"""UP: literal numbers, gradients, and that it is vanilla where the ratio is 1."""

import math

import pytest
import torch
from golden import ADVANTAGE, CLIP, LOGP, MASK, OLD, N, run_of, token_mean, train, vanilla

from entropo_plugin.config import ConfigError
from entropo_plugin.methods.active import describe, remarks
from entropo_plugin.objectives import unlikely_positive

LOW, HIGH, DUAL = CLIP


def loss(logp, **more):
    return token_mean(unlikely_positive(logp, OLD, ADVANTAGE, MASK, low=LOW, high=HIGH, dual=DUAL, **more))


def test_the_golden_loss():
    assert float(loss(LOGP)) == pytest.approx(-0.657854, abs=1e-6)


def test_the_gradient():
    """-A / N for a right answer, whatever the ratio; a wrong one keeps the clip's."""
    logp = LOGP.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logp), logp)
    wrong = [0.5 / N, 0.0, 0.5 * math.exp(-0.01) / N, 0.0]
    torch.testing.assert_close(gradient, torch.tensor([[-1.5 / N] * 4, wrong], dtype=torch.float64))
    wrongs = torch.where(ADVANTAGE < 0, MASK, torch.zeros_like(MASK))
    assert torch.autograd.gradcheck(
        lambda x: unlikely_positive(x, OLD, ADVANTAGE, wrongs, low=LOW, high=HIGH), LOGP.clone().requires_grad_()
    )


def test_at_ratio_1_it_is_verls_vanilla_to_the_last_bit():
    both = []
    for of in (loss, lambda logp: vanilla(logp, ADVANTAGE)):
        logp = OLD.clone().requires_grad_()
        value = of(logp)
        both += [value.detach(), torch.autograd.grad(value, logp)[0]]
    assert torch.equal(both[0], both[2]) and torch.equal(both[1], both[3])


def test_importance_weights_and_padding():
    assert float(loss(LOGP, weight=torch.full_like(LOGP, 0.5))) == pytest.approx(-0.657854 / 2, abs=1e-6)
    broken = LOGP.clone()
    broken[1, 3] = math.nan
    assert float(loss(broken)) == float(loss(LOGP))


def test_through_verl_the_first_update_is_vanillas_and_the_second_is_not(monkeypatch):
    ours, metrics = train(monkeypatch, "+entropo=unlikely_positive")
    other, _ = train(monkeypatch)
    assert ours.ranks.losses[0] == other.ranks.losses[0] and torch.equal(*(t.ranks.gradients[0] for t in (ours, other)))
    assert ours.ranks.losses[1] != other.ranks.losses[1] and metrics["entropo/clip/above_positive"] == 0


def test_it_keeps_the_hosts_clip_for_wrong_answers(monkeypatch):
    leaves = {"actor_rollout_ref__actor__clip_ratio_low": 0.01}
    narrow, wide = (train(monkeypatch, "+entropo=unlikely_positive", **each)[0].ranks.losses for each in (leaves, {}))
    assert narrow[1] != wide[1]


def test_it_says_where_it_cannot_act():
    run = run_of("unlikely_positive", facts={"updates": 1})
    assert "equals vanilla" in next(iter(remarks(run.methods)))
    assert list(remarks(run_of("unlikely_positive").methods)) == []
    words = describe(run.methods, run.settings, run.methods[0].host)
    assert words == "entropo: policy loss UP in place of vanilla"


def test_another_loss_is_refused():
    with pytest.raises(ConfigError, match="loss_mode=gspo: UP has a policy loss of its own"):
        run_of("unlikely_positive", facts={"loss_mode": "gspo"})
    with pytest.raises(ConfigError, match="both have a policy loss of their own"):
        run_of("unlikely_positive", "adapo")
