"""EntroPIC: literal numbers, its mean over the chosen tokens, its sum, and what is refused."""

import math

import pytest
import torch
from golden import ADVANTAGE, LOGP, MASK, micro, prepared, run_of, same, steps, token_mean, train, vanilla

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import describe, remarks


def loss(run, logp=LOGP):
    (method,) = run.methods
    return vanilla(logp, ADVANTAGE) + token_mean(method.penalty(micro(logp), run.coefficients()["entropic"], None))


def test_the_golden_loss():
    """Two of seven tokens are more probable than 0.95; alpha = 0.3 - 0.1."""
    run = run_of("entropic", entropy=0.3)
    prepared(run)
    assert run.coefficients()["entropic"] == {"entropic_alpha": pytest.approx(0.2), "entropic_share": 2 / 7}
    assert float(loss(run)) == pytest.approx(-0.845017, abs=1e-6)


def test_the_gradient():
    """-alpha r |A| / 2 on the two tokens."""
    run = run_of("entropic", entropy=0.3)
    prepared(run)
    (method,) = run.methods
    logp, c = LOGP.clone().requires_grad_(), run.coefficients()["entropic"]
    (gradient,) = torch.autograd.grad(token_mean(method.penalty(micro(logp), c, None)), logp)
    expected = [[0, 0, -0.2 * 1.5 / 2, 0], [0, 0, -0.2 * math.exp(-0.01) * 0.5 / 2, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: loss(run, x), LOGP.clone().requires_grad_())


def test_the_coefficient_sums_the_earlier_errors_once_a_step():
    metrics = steps(run_of("entropic"), 0.3, 0.2, 0.05)
    assert [each["entropo/entropic_alpha"] for each in metrics] == pytest.approx([0.2, 0.102, -0.047])
    run = run_of("entropic", entropy=0.3)
    for _ in range(3):
        prepared(run)
    assert run.methods[0].total == 0


def test_the_coefficient_is_bounded_and_says_so():
    (step,) = steps(run_of("entropic"), 2.0)
    assert (step["entropo/entropic_alpha"], step["entropo/entropic_alpha_at_bound"]) == (1.0, 1.0)


def test_without_an_entropy_or_a_sure_token_it_does_nothing():
    run = run_of("entropic", entropy=float("nan"))
    prepared(run)
    assert run.coefficients()["entropic"]["entropic_alpha"] == 0
    run = run_of("entropic", entropy=0.3, entropic={"probability": 0.999})
    prepared(run)
    assert float(loss(run)) == float(vanilla(LOGP, ADVANTAGE))
    assert "weighs no token" in run.methods[0].idle()["entropo/entropic_share"]


def test_padding_that_is_not_finite_stays_out():
    run = run_of("entropic", entropy=0.3)
    prepared(run)
    broken = LOGP.clone()
    broken[1, 3] = math.nan
    penalty = run.methods[0].penalty(micro(broken), run.coefficients()["entropic"], None)
    assert penalty.isfinite().all() and float(penalty[MASK == 0]) == 0


def test_without_gains_it_is_verls_loss_to_the_last_bit(monkeypatch):
    leaves = {"entropo__entropic__proportional": 0.0, "entropo__entropic__integral": 0.0}
    ours, metrics = train(monkeypatch, "+entropo=entropic", entropo__entropic__probability=0.3, **leaves)
    assert same(ours, train(monkeypatch)[0]) and metrics["entropo/entropic_share"] > 0
    (warning,) = remarks(run_of("entropic", entropic={"proportional": 0.0, "integral": 0.0}).methods)
    assert "stays 0" in warning


def test_its_target_is_the_papers_and_repos_is_another():
    run = run_of("entropic")
    assert "target 0.1 nats" in describe(run.methods, run.settings, run.methods[0].host)
    with pytest.raises(ConfigError, match="EntroPIC to 0.1 nats and REPO-R to the initial entropy"):
        run_of("entropic", "repo_r")


@pytest.mark.parametrize(
    "settings", [{"probability": 1.01}, {"probability": -0.1}, {"proportional": -1.0}, {"integral": float("inf")}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="entropo.entropic.*out of range"):
        parse({"entropic": settings})
