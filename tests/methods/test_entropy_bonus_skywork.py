"""Skywork-OR1's law of the entropy bonus: its gate, its constants, its target."""

import pytest
from golden import run_of, same, steps, train

from entropo_plugin.config import ConfigError
from entropo_plugin.methods.active import describe, remarks


def run(**settings):
    return run_of("entropy_bonus", entropy_coeff={"law": "skywork"} | settings)


def test_the_golden_steps():
    """H = .30, .15, .12, .25 with a target of .2; then c = .005, and the gate is shut."""
    made = run()
    metrics = steps(made, 0.30, 0.15, 0.12, 0.25)
    assert [each["entropo/entropy_coeff"] for each in metrics] == pytest.approx([0, 0, 0.005, 0.010])
    controller = made.loop.controllers["entropy_coeff"]
    assert (controller.value, controller.applied) == (pytest.approx(0.005), 0)
    assert metrics[-1]["entropo/entropy_coeff_next"] == 0


def test_at_the_target_the_gate_is_open():
    assert steps(run(), 0.2)[0]["entropo/entropy_coeff_next"] == pytest.approx(0.005)


def test_its_constants_differ_from_the_additive_laws():
    (skywork,), (additive,) = (
        run_of("entropy_bonus", entropy_coeff={"law": law}).methods for law in ("skywork", "additive")
    )
    one, other = (method.coefficients()["entropy_coeff"] for method in (skywork, additive))
    assert (one.low, one.high, one.options.delta) == (0, 1, 0.005)
    assert (other.low, other.high, other.options.delta) == (0, 0.05, 0.001)
    assert (skywork.own_target, additive.own_target) == (0.2, None)


def test_before_the_first_measurement_nothing_acts(monkeypatch):
    made = run(initial=0.01)
    assert made.coefficients()["entropy_bonus"]["entropy_coeff"] == 0
    leaves = {"entropo__entropy_coeff__law": "skywork", "actor_rollout_ref__actor__calculate_entropy": True}
    ours, _ = train(monkeypatch, "+entropo=entropy_bonus", entropo__entropy_coeff__initial=0.01, **leaves)
    assert same(ours, train(monkeypatch)[0])


def test_it_says_its_law_and_target():
    made = run()
    words = describe(made.methods, made.settings, made.methods[0].host)
    assert "target 0.2 nats" in words and "entropy_coeff by skywork within [0, 1]" in words


def test_bounds_that_cross_are_refused():
    with pytest.raises(ConfigError, match=r"entropy_coeff.low=2.0 exceeds entropo.entropy_coeff.high=1.0"):
        run(low=2.0)
    with pytest.raises(ConfigError, match="starts at 0.1, outside"):
        list(remarks(run(initial=0.1, high=0.05).methods))
