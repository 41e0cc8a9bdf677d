import json
import math

import pytest

from entropo_plugin.monitor.law import LawFit, RewardLaw, fit_law, student_t

HAND = [(math.log(x), y) for x, y in [(1, 5), (2, 3), (3, 4), (4, 1), (5, 2)]]
KNOWN = [(h, 1.1 - 0.4 * math.exp(h)) for h in (0.1, 0.3, 0.5, 0.7, 1.0, 1.2)]


def test_a_known_line_is_found():
    fit = fit_law(KNOWN)
    assert (fit.a, fit.b, fit.ceiling) == pytest.approx((0.4, 1.1, 0.7))
    assert fit.r_squared == pytest.approx(1.0)
    assert (fit.low, fit.high) == pytest.approx((0.7, 0.7), abs=1e-6)
    assert fit.trusted
    assert "would end near 0.7" in fit.verdict


def test_worked_by_hand():
    """exp(H) 1 2 3 4 5, R 5 3 4 1 2: slope -8/10, R^2 = .64, residual variance 3.6/3, reach 1 + 1/5 + 4/10."""
    fit = fit_law(HAND)
    assert (fit.a, fit.b, fit.ceiling) == pytest.approx((0.8, 5.4, 4.6))
    assert fit.r_squared == pytest.approx(0.64)
    assert fit.high - fit.ceiling == pytest.approx(3.182446 * math.sqrt(1.2 * 1.6), rel=1e-6)
    assert fit.ceiling - fit.low == pytest.approx(fit.high - fit.ceiling)
    assert fit.doubts == ["R^2 = 0.64 is below 0.8: the points do not follow the law"]


def test_each_doubt_in_plain_language():
    assert "rests on 4 points" in fit_law(KNOWN[:4]).verdict
    assert "a = -0.4 is not positive" in fit_law([(h, -r) for h, r in KNOWN]).verdict
    assert "entropy has hardly moved" in fit_law([(0.5 + i * 1e-4, i) for i in range(6)]).verdict
    still = fit_law([(0.5, 0.1 * i) for i in range(6)])
    assert still.a is None and still.ceiling is None and not still.trusted
    assert still.verdict.startswith("Don't trust this fit: entropy has hardly moved")
    flat = fit_law([(h, 0.3) for h, _ in KNOWN])
    assert flat.a == 0 and flat.r_squared == 0 and not flat.trusted


def test_nothing_yet():
    assert fit_law([]) == LawFit(points=0, spread=0.0)
    assert RewardLaw().metrics() == {}
    one = RewardLaw()
    one.add(0.5, 0.2)
    assert one.metrics() == {"entropo/law/points": 1.0, "entropo/law/trusted": 0.0}


def test_two_points_have_no_interval():
    law = RewardLaw()
    for pair in KNOWN[:2]:
        law.add(*pair)
    assert "entropo/law/ceiling" in law.metrics()
    assert "entropo/law/ceiling_low" not in law.metrics()


def test_what_is_not_a_number_is_passed_over():
    law = RewardLaw()
    for pair in ((None, 1.0), (1.0, None), (float("nan"), 1.0), (1.0, float("inf"))):
        law.add(*pair)
    assert law.line.n == 0


def test_metrics_and_state():
    law = RewardLaw()
    for pair in HAND[:3]:
        law.add(*pair)
    resumed = RewardLaw()
    resumed.load_state_dict(json.loads(json.dumps(law.state_dict())))
    for pair in HAND[3:]:
        resumed.add(*pair)
    found = resumed.metrics()
    assert found["entropo/law/ceiling"] == pytest.approx(4.6)
    assert found["entropo/law/ceiling_high"] == pytest.approx(4.6 + 4.409727, abs=1e-5)
    assert found["entropo/law/points"] == 5
    assert found["entropo/law/trusted"] == 0


@pytest.mark.parametrize(
    "freedom, t",
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (10, 2.22814), (31, 2.03951), (1000, 1.96234)],
)
def test_student_t_against_the_printed_tables(freedom, t):
    assert student_t(freedom) == pytest.approx(t, abs=5e-5)


def test_student_t_at_another_level():
    assert student_t(5, level=0.99) == pytest.approx(4.03214, abs=5e-5)
