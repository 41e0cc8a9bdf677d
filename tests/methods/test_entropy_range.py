"""Entrocraft: the literal numbers, the way of the range, and what is refused."""

import pytest
import torch
from golden import prepared, run_of, same, steps, train

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import describe

# rewards 1, 0, 0, 0 less their mean
FOUR = {
    "log_prob": -torch.ones(4, 1), "old_log_prob": -torch.ones(4, 1), "mask": torch.ones(4, 1),
    "advantage": torch.tensor([[0.75], [-0.25], [-0.25], [-0.25]]), "entropy": torch.ones(4, 1),
}  # fmt: skip


@pytest.mark.parametrize(
    ("entropy", "side", "expected"),
    [
        (0.65, 0, [0.75, -0.25, -0.25, -0.25]),
        (0.59, -1, [0, -0.25, -0.25, -0.25]),
        (0.71, 1, [0.75, 0, 0, 0]),
        (0.6, 0, [0.75, -0.25, -0.25, -0.25]),
        (0.7, 0, [0.75, -0.25, -0.25, -0.25]),
    ],
)
def test_the_golden_advantages(entropy, side, expected):
    run = run_of("entropy_range", entropy=entropy)
    assert prepared(run, **FOUR).advantage[:, 0].tolist() == expected
    assert run.coefficients()["entropy_range"]["range_side"] == side


def test_a_step_without_an_entropy_changes_nothing():
    for entropy in (None, float("nan"), float("inf")):
        assert prepared(run_of("entropy_range", entropy=entropy), **FOUR).advantage[0] == 0.75


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.5), ("cosine", 0.5), ("constant", 0.6)])
def test_the_range_goes_to_its_end(schedule, middle):
    way = {} if schedule == "constant" else {"steps": 4}
    run = run_of("entropy_range", entropy_range={"schedule": schedule} | way)
    metrics = steps(run, *[0.55] * 6)
    low = [each["entropo/range_low"] for each in metrics]
    assert (low[0], low[2]) == pytest.approx((0.6, middle))
    assert low[4:] == pytest.approx([0.6 if schedule == "constant" else 0.4] * 2)
    assert [each["entropo/range_side"] for each in metrics[:1]] == [-1.0]


def test_a_quarter_of_the_way():
    linear, cosine = (
        steps(run_of("entropy_range", entropy_range={"schedule": kind, "steps": 4}), 0.65, 0.65)[1]
        for kind in ("linear", "cosine")
    )
    assert (linear["entropo/range_high"], cosine["entropo/range_high"]) == pytest.approx((0.65, 0.670711), abs=1e-6)


def test_inside_its_range_it_is_verls_loss_to_the_last_bit(monkeypatch):
    wide = {"entropo__entropy_range__low": 0.0, "entropo__entropy_range__high": 20.0}
    ours, metrics = train(monkeypatch, "+entropo=entropy_range", **wide)
    assert same(ours, train(monkeypatch)[0]) and metrics["entropo/range_side"] == 0


def test_it_says_when_the_entropy_never_leaves_the_range():
    (method,) = run_of("entropy_range").methods
    assert "stayed inside" in method.idle()["entropo/range_side"]


def test_it_is_no_target():
    run = run_of("entropy_range")
    words = describe(run.methods, run.settings, run.methods[0].host)
    assert "Entrocraft on grpo advantages" in words and "target" not in words
    with pytest.raises(ConfigError, match="entropo.target.fraction=0.5: nothing that runs reads it"):
        run_of("entropy_range", target={"fraction": 0.5})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"low": 0.8}, "entropo.entropy_range.low=0.8 exceeds entropo.entropy_range.high=0.7"),
        ({"low_end": 0.6}, "entropo.entropy_range.low_end=0.6 exceeds entropo.entropy_range.high_end=0.5"),
        ({"low": -0.1}, "entropo.entropy_range.low=-0.1: out of range"),
        ({"steps": 0}, "entropo.entropy_range.steps=0: out of range"),
        ({"schedule": "power"}, "entropo.entropy_range.schedule='power': not allowed"),
    ],
)
def test_a_range_that_is_none_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse({"entropy_range": settings})
