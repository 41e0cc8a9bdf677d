"""Two thousand steps of every law on inputs that no run should ever see."""

import json
import logging
import math
import random

import pytest

from entropo_plugin.control import LAWS, Anneal, Coefficient, ControlLoop, Options, Target

STEPS, SEED = 2000, 7
VOCABULARY = math.log(151_936)
HOSTILE = [None, math.nan, math.inf, -math.inf, 0.0, -0.0, -1e-12, 1e-300, VOCABULARY, 1e6, 1e300, -1e300, -5.0]
BOUNDS = {"zeta": (1e-3, 1e-4, 0.05, True), "clip_high": (0.28, 0.05, 5.0, False), "bonus": (0.005, 0.0, 0.05, False)}
LAWS_OF = {
    "zeta": ("doubling", "pi", "fixed", "annealed"),
    "clip_high": ("multiplicative", "additive", "pi", "fixed", "annealed"),
    "bonus": ("skywork",),
}
PAIRS = [(name, law) for name, laws in LAWS_OF.items() for law in laws]
TARGETS = [
    Target(),
    Target(kind="value", value=0.5),
    Target(kind="value", value=20.0),
    Target(kind="value", value=0.0, schedule="cosine", hold=10, steps=500),
    Target(fraction=2.0, schedule="power", start=3.0, steps=50, power=10.0),
]


def control(law, coefficient="zeta", target=TARGETS[0], high=None):
    """A loop over one coefficient, called c."""
    initial, low, most, signed = BOUNDS[coefficient]
    options = Options(signed=signed, anneal=Anneal(kind="cosine", end=most, hold=100, steps=500))
    return ControlLoop({"c": Coefficient("c", law, initial, low, high or most, options=options)}, target)


def end(loop, entropy):
    """One global step with this entropy, or without one."""
    if entropy is not None:
        loop.observe(entropy, 1)
    loop.updated = True
    return loop.end_step(1)


def reload(old, fresh):
    fresh.load_state_dict(json.loads(json.dumps(old.state_dict(), allow_nan=False)))
    return fresh


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "entropo_plugin")


def draw(chance):
    return chance.choice(HOSTILE) if chance.random() < 0.3 else chance.lognormvariate(0, 2)


def test_every_law_is_soaked():
    assert {law for _, law in PAIRS} == set(LAWS)


@pytest.mark.parametrize(("coefficient", "law"), PAIRS)
@pytest.mark.parametrize("target", TARGETS, ids=lambda each: f"{each.kind}-{each.schedule}-{each.value}")
def test_any_input_leaves_it_in_bounds_and_resumable(coefficient, law, target):
    chance, low, high = random.Random(SEED), *BOUNDS[coefficient][1:3]
    run, resumed = control(law, coefficient, target), control(law, coefficient, target)
    for _ in range(STEPS):
        entropy = draw(chance)
        resumed = reload(resumed, control(law, coefficient, target))
        metrics = end(run, entropy)
        assert metrics == end(resumed, entropy) and run.state_dict() == resumed.state_dict()
        assert all(math.isfinite(value) for value in metrics.values())
        assert abs(run.value("c")) <= high
        assert BOUNDS[coefficient][3] or law in ("fixed", "annealed") or run.value("c") >= low
        assert 0 <= metrics.get("entropo/target", 0.0) <= 200
    assert run.controllers["c"].steps == STEPS - run.skipped
    assert run.skipped == 0 if law in ("fixed", "annealed") else run.skipped > 100


@pytest.mark.parametrize("law", ["doubling", "pi"])
def test_after_two_hundred_broken_steps_it_steers_again(law):
    """A plant that loses 0.02 nats a step and gains what zeta pushes; the fault comes while it is held."""
    run, entropy, held = control(law, target=Target(kind="value", value=1.0)), 1.0, []
    for step in range(1200):
        before = run.value("c")
        end(run, entropy if not 500 <= step < 700 else math.nan)
        assert step < 500 or step >= 700 or run.value("c") == before
        entropy = min(5.0, max(0.0, entropy - 0.02 + 4 * run.value("c")))
        held.append(entropy)
    assert run.skipped == 200
    assert max(abs(each - 1.0) for each in held[300:500]) < 0.4
    assert max(abs(each - 1.0) for each in held[900:]) < 0.4


@pytest.mark.parametrize("law", ["doubling", "multiplicative", "additive", "pi"])
def test_a_target_out_of_reach_holds_the_bound_says_so_and_lets_go_at_once(law):
    coefficient = "zeta" if law == "doubling" else "clip_high"
    run, high = control(law, coefficient, Target(kind="value", value=5.0)), BOUNDS[coefficient][2]
    steps = [end(run, 1.0) for _ in range(300)]
    assert run.value("c") == high and all(metrics["entropo/c_at_bound"] for metrics in steps[50:])
    back = [end(run, 9.0) for _ in range(3)]
    assert back[-1]["entropo/c_next"] < high


@pytest.mark.parametrize("law", ["fixed", "annealed"])
def test_a_coefficient_that_follows_no_entropy_is_at_no_bound(law):
    run = control(law)
    assert not any(end(run, 1.0)["entropo/c_at_bound"] for _ in range(1000))
