"""Where two runs part, and when the floor is reached."""

import numpy as np
import pytest

from entropo_plugin.report.findings.parting import floor, part, parting, rate
from entropo_plugin.report.runs import Run
from entropo_plugin.report.series import noise, series

ENTROPY = "entropo/entropy/token_mean"


def run(name, values, metric=ENTROPY):
    return Run(name, {metric: series(range(1, len(values) + 1), values)})


def test_runs_without_noise_part_where_they_differ():
    same = [1.0] * 10
    assert part(series(range(10), same), series(range(10), same)) is None
    assert part(series(range(10), same), series(range(10), same[:6] + [0.9] * 4)) == 6


def test_noise_alone_parts_nothing():
    rng = np.random.default_rng(0)
    first, second = (series(range(200), 1 + 0.1 * rng.standard_normal(200)) for _ in range(2))
    assert part(first, second) is None
    assert noise(first.values) == pytest.approx(0.1, rel=0.2)
    fallen = series(range(200), second.values - np.maximum(0, np.arange(200) - 100) * 0.01)
    assert 120 <= part(first, fallen) <= 160


def test_one_step_or_two_apart_are_no_parting():
    first = series(range(10), [1.0] * 10)
    assert part(first, series(range(10), [1.0] * 4 + [0.5] * 2 + [1.0] * 4)) is None


def test_every_run_is_held_against_the_first():
    runs = [run("a", [1.0] * 10), run("b", [1.0] * 5 + [0.5] * 5), run("c", [1.0] * 10), run("d", [0.5] * 10)]
    (found,) = parting(runs)
    assert found.sentence.startswith("From a part: b at step 6 (entropy); d at step 1 (entropy). From there")
    assert parting(runs[:1]) == [] == parting([runs[0], runs[2]])


def test_a_steady_fall_reaches_a_quarter_of_its_start():
    (found,) = floor(run("a", [2.0 - 0.01 * t for t in range(100)]))
    assert found.sentence == (
        "a: at the rate of its last 20 values, \u22120.01 nats a step, entropy reaches 0.489 nats, a quarter of its "
        "start, in 52 steps (95 % interval 52 to 52)."
    )


def test_no_floor_is_named_where_the_rate_is_not_known_or_entropy_holds():
    rng = np.random.default_rng(1)
    assert floor(run("a", list(1 + 0.1 * rng.standard_normal(100)))) == []
    assert floor(run("a", [1.0 + 0.01 * t for t in range(100)])) == []
    assert floor(run("a", [2.0 - 0.01 * t for t in range(19)])) == []
    falling = run("a", [2.0 - 0.01 * t for t in range(100)])
    falling.metrics["entropo/target"] = falling.metrics[ENTROPY]
    assert floor(falling) == []


def test_the_interval_holds_in_nineteen_of_twenty_runs():
    """The true rate lies within two standard errors of the fitted one."""
    rng = np.random.default_rng(2)
    steps, hits = np.arange(40), 0
    for _ in range(400):
        _, slope, error = rate(steps, 1 - 0.01 * steps + 0.05 * rng.standard_normal(40))
        hits += abs(slope + 0.01) <= 2 * error
    assert hits >= 0.93 * 400
