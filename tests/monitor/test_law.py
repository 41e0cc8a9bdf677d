import json
import math
import random

import pytest

from entropo_plugin.monitor.law import LawFit, RewardLaw, fit_law
from entropo_plugin.monitor.student import student_t

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
    assert fit.doubts == [
        "R^2 = 0.64 is below 0.98: the points do not follow the law",
        "its ceiling 4.6 is below 5, a score that was seen",
    ]


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
    assert law.points == []


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
    ("freedom", "t"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (10, 2.22814), (31, 2.03951), (1000, 1.96234)],
)
def test_student_t_against_the_printed_tables(freedom, t):
    assert student_t(freedom) == pytest.approx(t, abs=5e-5)


def test_student_t_at_another_level():
    assert student_t(5, level=0.99) == pytest.approx(4.03214, abs=5e-5)


def with_noise(points, size, seed=0, memory=0.0):
    """Scores with normal errors of standard deviation ``size``, each ``memory`` times the one before plus its own."""
    draw, error, noisy = random.Random(seed), 0.0, []
    for entropy, score in points:
        error = memory * error + draw.gauss(0, size * math.sqrt(1 - memory**2))
        noisy.append((entropy, score + error))
    return noisy


def descent(last, n=20, law=True):
    """Entropy from 1.2 nats down to ``last``; R = .9 - .25 exp(H), or the wrong form R = .65 - .5 H."""
    entropies = [last + (1.2 - last) * math.exp(-3 * i / (n - 1)) for i in range(n)]
    return [(h, 0.9 - 0.25 * math.exp(h) if law else 0.65 - 0.5 * h) for h in entropies]


def test_the_spread_is_measured_beside_the_way_to_the_ceiling():
    """H between 3.0000 and 3.0015: exp(H) moves by .03, which is no small number, and the ceiling is 19 away."""
    fit = fit_law([(3.0 + 0.0003 * i, 0.5 - 0.01 * i) for i in range(6)])
    assert "entropy has hardly moved" in fit.verdict


@pytest.mark.parametrize("start", [0.0, 0.001, 0.01, 0.5, 3.0, 8.0])
def test_a_move_of_a_thousandth_is_none_wherever_it_is(start):
    """The points lie on the law; .0015 nats are .15 % of exp(H) at every entropy."""
    points = [(start + 0.0001 * i, 0.9 - 0.01 * math.exp(start + 0.0001 * i)) for i in range(16)]
    assert fit_law(points).doubts == ["entropy has hardly moved, so nothing shows how the score depends on it"]


def test_little_entropy_that_is_nearly_spent_is_enough():
    assert fit_law([(h, 0.7 - 0.4 * math.exp(h)) for h in (0.10, 0.08, 0.06, 0.05, 0.03, 0.02)]).trusted


def test_a_ceiling_below_a_score_that_was_seen():
    points = [*KNOWN, (0.05, 0.95)]
    assert "is below 0.95, a score that was seen" in fit_law(points).verdict


def test_entropy_control_is_a_doubt_of_its_own():
    assert fit_law(KNOWN).trusted and not fit_law(KNOWN, controlled=True).trusted
    assert "entropy was controlled" in fit_law(KNOWN, controlled=True).verdict
    law = RewardLaw(controlled=True)
    for pair in KNOWN:
        law.add(*pair)
    assert law.metrics()["entropo/law/trusted"] == 0


def test_a_score_linear_in_entropy_is_no_law():
    fit = fit_law(descent(0.1, law=False))
    assert "the points lie on a curve in exp(H), not on a line" in fit.doubts
    assert "neighbouring points err the same way" in fit.verdict


def test_points_that_fit_two_forms_are_not_trusted():
    """Down to .6 nats, noise hides the bend; the line in H ends at .65, beyond the interval around .79."""
    fits = [fit_law(with_noise(descent(0.6, law=False), 0.02, seed)) for seed in range(20)]
    assert not any(fit.trusted for fit in fits)
    assert sum("a line in H itself fits as well" in fit.verdict for fit in fits) >= 10


@pytest.mark.parametrize(
    ("points", "memory", "covered", "most_trusted", "least_trusted"),
    [
        (descent(0.1), 0.0, (0.92, 0.98), 1.0, 0.6),
        (descent(0.1), 0.8, (0.6, 0.9), 0.1, 0.0),
        (descent(0.1, law=False), 0.0, (0.2, 0.6), 0.01, 0.0),
    ],
    ids=["independent", "AR(1) of .8", "linear in H"],
)
def test_coverage_of_the_printed_interval(points, memory, covered, most_trusted, least_trusted):
    """400 simulated runs: the score at H = 0 lies in the interval as often as it says, or the fit is not trusted."""
    truth, hits, trusted = (0.65, 0, 0)
    for seed in range(400):
        fit = fit_law(with_noise(points, 0.01, seed, memory))
        score = truth + random.Random(-seed - 1).gauss(0, 0.01)
        hits += fit.low <= score <= fit.high
        trusted += fit.trusted
    assert covered[0] <= hits / 400 <= covered[1]
    assert least_trusted <= trusted / 400 <= most_trusted


def test_a_long_run_keeps_two_hundred_points_at_most():
    law = RewardLaw()
    for i in range(5000):
        law.add(1.0 + i % 7, 0.5)
    assert 100 <= len(law.points) <= 200
    assert len(law.state_dict()["points"]) == 2 * len(law.points)


def test_a_state_with_half_a_pair_is_refused():
    with pytest.raises(ValueError, match="3 numbers are no pairs"):
        RewardLaw().load_state_dict({"points": [1.0, 0.5, 0.9]})
