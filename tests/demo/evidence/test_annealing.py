"""The exact bandit, against its closed-form optima."""

import math

import pytest

from entropo_plugin.demo.evidence.annealing import ANSWERS, RIGHT, ascend, outcome, start


def test_the_start_is_right_one_time_in_five():
    logits, reward = start()
    assert outcome(logits, reward)["reward"] == pytest.approx(0.2, abs=1e-12)


def test_a_constant_bonus_ends_at_its_biased_optimum():
    # p ~ exp(r / alpha): 20 right of 100
    wanted = RIGHT / (RIGHT + (ANSWERS - RIGHT) * math.exp(-1 / 0.3))
    found = ascend("bonus", 0.3, False)
    assert found["reward"] == pytest.approx(wanted, abs=5e-3)
    assert found["right_entropy"] == pytest.approx(math.log(RIGHT), abs=1e-3)


def test_a_constant_anchor_keeps_the_starts_spread():
    logits, reward = start()
    best = outcome(logits.log_softmax(0) + reward / 0.3, reward)
    found = ascend("anchor", 0.3, False)
    assert found["reward"] == pytest.approx(best["reward"], abs=5e-3)
    assert found["distinct"] == pytest.approx(best["distinct"], abs=0.1)
    assert found["right_entropy"] == pytest.approx(outcome(logits, reward)["right_entropy"], abs=5e-3)


def test_annealed_ones_cost_less_reward():
    for kind in ("bonus", "anchor"):
        constant, annealed = (ascend(kind, 0.3, each) for each in (False, True))
        assert annealed["reward"] > 0.99 > constant["reward"]


def test_without_a_term_the_best_known_answer_takes_it_all():
    assert ascend("bonus", 0.0, False)["distinct"] == pytest.approx(1.0, abs=0.02)
