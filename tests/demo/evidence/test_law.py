"""The law's first half on its second, from points of a known form."""

import math

import pytest

from entropo_plugin.demo.evidence.law import pairs, predicted


def points(reward, entropies):
    return [(h, reward(h)) for h in entropies]


def test_a_run_that_follows_the_law_is_predicted():
    falling = [1.5 - 0.1 * i for i in range(12)]
    found = predicted(points(lambda h: 0.9 - 0.2 * math.exp(h), falling))
    assert found["bias"] == pytest.approx(0.0, abs=1e-12)
    assert found["error"] == pytest.approx(0.0, abs=1e-12)
    # from exp(1.0) in the middle to exp(0.9), ..., exp(0.4)
    change = sum(0.2 * (math.e - math.exp(h)) for h in falling[6:]) / 6
    assert found["error_of_no_change"] == pytest.approx(change, abs=1e-12)


def test_a_reward_that_rises_without_entropy_is_underestimated():
    found = predicted([(1.5 - 0.1 * i, 0.1 * i) for i in range(6)] + [(1.0, 0.9)] * 6)
    assert found["bias"] == pytest.approx(-0.4, abs=0.05)
    assert found["error"] == -found["bias"]


def test_a_curve_is_averaged_in_blocks(tmp_path):
    rows = "".join(f"{i + 1},{i / 10},{2 - i / 10}\n" for i in range(7))
    (tmp_path / "curve.csv").write_text(f"rollout,reward,entropy\n{rows}")
    found = pairs(tmp_path / "curve.csv", over=3)
    assert found == [pytest.approx((1.9, 0.1)), pytest.approx((1.6, 0.4))]
