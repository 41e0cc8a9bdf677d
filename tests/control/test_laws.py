"""Laws, schedules and targets by literal numbers; controllers by their traces and their state."""

import json
import math
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.control import (
    LAWS,
    Anneal,
    Coefficient,
    Controller,
    ControlLoop,
    Gains,
    Options,
    Target,
    TargetTracker,
    additive,
    doubling,
    multiplicative,
    scheduled,
)
from entropo_plugin.fields import ConfigError


def controller(law, initial, low, high, options=None):
    return Controller(Coefficient("c", law, initial, low, high, options=options or Options()))


def after(control, entropy, target=1.0):
    """The coefficient that a step with this entropy leads to."""
    control.step(entropy, target)
    return control.value


def test_doubling_trace_up_and_across_zero():
    control = controller("doubling", 1e-3, 1e-4, 0.05)
    up = [after(control, 0.5) for _ in range(6)]
    assert up == [0.002, 0.004, 0.008, 0.016, 0.032, 0.05]
    down = [after(control, 1.5) for _ in range(18)]
    assert down[:8] == [0.05 / 2**n for n in range(1, 9)]
    assert down[8:10] == [-1e-4, -2e-4] and down[-1] == -0.05
    assert [after(control, 0.5) for _ in range(9)][-2:] == [-0.05 / 256, 1e-4]


def test_doubling_at_zero_and_on_target():
    assert doubling(0.0, 0.5, 1.0, 1e-4, 0.05) == 1e-4
    assert doubling(0.0, 1.5, 1.0, 1e-4, 0.05) == -1e-4
    assert doubling(0.03, 1.0, 1.0, 1e-4, 0.05) == 0.03


@pytest.mark.parametrize(
    ("entropy", "expected"), [(0.5, 0.28 * 1.1), (1.5, 0.28 / 1.1), (1.0, 0.28), (math.nextafter(1, 0), 0.28 * 1.1)]
)
def test_multiplicative_literal(entropy, expected):
    assert multiplicative(0.28, entropy, 1.0, 0.05, 5.0) == pytest.approx(expected, rel=1e-15)


def test_multiplicative_stays_in_its_bounds():
    assert multiplicative(4.9, 0.5, 1.0, 0.05, 5.0) == 5.0
    assert multiplicative(0.051, 1.5, 1.0, 0.05, 5.0) == 0.05


def test_additive_literal():
    assert [additive(k, h, 1.0, 0.0, 2.5) for k, h in ((0.0, 0.5), (0.0, 1.5), (2.4, 0.5), (1.0, 1.5), (1.0, 1.0))] == [
        0.25, 0.0, 2.5, 0.75, 1.0,
    ]  # fmt: skip


def test_pi_literal():
    control = controller("pi", 0.01, 1e-4, 0.1, Options(gains=Gains(0.5, 0.1)))
    error = math.log(2)
    assert after(control, 0.5) == pytest.approx(0.01 + 0.1 * 0.6 * error)
    assert after(control, 0.5) == pytest.approx(0.01 + 0.1 * 0.7 * error)
    assert after(control, 1.0) == pytest.approx(0.01 + 0.1 * 0.2 * error)


@pytest.mark.parametrize(("entropy", "bound"), [(0.1, 0.1), (10.0, -0.1)])
def test_pi_does_not_wind_up(entropy, bound):
    control = controller("pi", 0.0, 1e-4, 0.1)
    for _ in range(500):
        control.step(entropy, 1.0)
    assert control.value == bound and control.at_bound
    back = [after(control, 1 / entropy) for _ in range(3)]
    assert all(abs(each) < 0.1 or each == -bound for each in back) and back[0] * bound <= 0


def test_pi_of_an_unsigned_coefficient_keeps_its_floor():
    control = controller("pi", 0.28, 0.05, 5.0, Options(signed=False))
    assert after(control, 50.0) == 0.05 and control.at_bound


def test_pi_survives_zero_entropy():
    assert math.isfinite(after(controller("pi", 0.0, 0.0, 1.0), 0.0))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [8.0, 8.0, 8.0, 8.0, 8.0]),
        ("linear", [8.0, 8.0, 5.0, 2.0, 2.0]),
        ("cosine", [8.0, 8.0, 5.0, 2.0, 2.0]),
        ("power", [8.0, 8.0, 2 + 6 / 1.5**2, 2 + 6 / 4, 2 + 6 / 9]),
    ],
)
def test_schedule_literal(kind, expected):
    found = [scheduled(kind, step, 8.0, 2.0, hold=10, steps=20, power=2.0) for step in (0, 10, 20, 30, 50)]
    assert found == pytest.approx(expected)


def test_cosine_starts_slowly():
    assert scheduled("cosine", 1, 1.0, 0.0, 0, 4) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_annealed_coefficient_ignores_the_entropy():
    control = controller("annealed", 1.0, 0.0, 1.0, Options(anneal=Anneal("linear", 0.0, hold=2, steps=4)))
    assert [control.value] + [after(control, h) for h in (0.1, 9, 1, 1, 1, 1, 1)] == [
        1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), [0.8, 0.8, 0.8, 0.8]),
        (Target(fraction=0.5), [0.4, 0.4, 0.4, 0.4]),
        (Target(kind="value", value=1.2), [1.2, 1.2, 1.2, 1.2]),
        (Target(fraction=0.5, schedule="linear", steps=2), [0.8, 0.6, 0.4, 0.4]),
        (Target(kind="value", value=1.2, schedule="linear", steps=2, hold=1), [0.8, 0.8, 1.0, 1.2]),
        (Target(kind="value", value=1.2, schedule="linear", steps=2, start=0.2), [0.2, 0.7, 1.2, 1.2]),
        (Target(kind="value", value=0.0, schedule="power", steps=1), [0.8, 0.4, 0.8 / 3, 0.2]),
    ],
)
def test_target_literal(target, expected):
    tracker = TargetTracker(target)
    assert [tracker.observe(h) for h in (0.8, 0.1, 3.0, 0.2)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("target", "refused"),
    [
        (Target(kind="value", value=2.6), r"entropo.target.value=2.6: 2.6 nats .* at most log 13 = 2.565"),
        (Target(fraction=0.5, schedule="linear", start=2.6), "entropo.target.start=2.6: 2.6 nats"),
        (Target(kind="value", value=2.56), None),
        (Target(fraction=1.2), r"entropo.target.fraction=1.2 of the first entropy: 2.64 nats"),
        (Target(fraction=1.1), None),
    ],
)
def test_a_target_above_the_logarithm_of_the_vocabulary_is_refused(target, refused):
    loop = ControlLoop({"zeta": Coefficient("zeta", law="doubling", initial=1e-3, low=1e-4, high=0.05)}, target)
    loop.updated = True
    loop.observe(2.2, 1)
    with pytest.raises(ConfigError, match=refused) if refused else nullcontext():
        loop.know_vocabulary(13)
        loop.end_step(1)


CHOICES = Options(anneal=Anneal("power", 0.01, hold=1, steps=3))


@pytest.mark.parametrize("law", LAWS)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.integers(0, 12))
def test_a_resumed_controller_continues_bit_for_bit(law, entropies, cut):
    whole, first, second = (controller(law, 0.1, 0.01, 3.0, CHOICES) for _ in range(3))
    expected = [after(whole, h) for h in entropies]
    values = [after(first, h) for h in entropies[:cut]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    values += [after(second, h) for h in entropies[cut:]]
    assert values == expected and second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("law", sorted(set(LAWS) - {"fixed", "annealed"}))
@settings(max_examples=50, deadline=None)
@given(st.floats(0.02, 2.9), st.floats(0, 10), st.floats(0, 10))
def test_more_missing_entropy_never_gives_less_coefficient(law, start, entropy, other):
    less, more = sorted((entropy, other))
    found = [after(controller(law, start, 0.01, 3.0), h) for h in (less, more)]
    assert found[0] >= found[1] and all(abs(each) <= 3.0 for each in found)
