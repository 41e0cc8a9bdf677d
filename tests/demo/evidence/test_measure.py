"""Counting right answers: against closed forms and brute force."""

import itertools
import math
from collections import Counter

import pytest

from entropo_plugin.demo.evidence.measure import Answers, expected_distinct, measured


def test_distinct_is_the_mean_over_all_draws():
    counts, size, drawn = Counter(a=3, b=1), 6, 3
    samples = ["a", "a", "a", "b", None, None]
    every = [len({s for s in pick if s}) for pick in itertools.combinations(samples, drawn)]
    assert expected_distinct(counts, size, drawn) == pytest.approx(sum(every) / len(every), abs=1e-15)
    assert expected_distinct(Counter(), 128) == 0.0
    assert expected_distinct(Counter({str(i): 1 for i in range(128)}), 128) == 64.0
    assert expected_distinct(Counter(a=128), 128) == 1.0


def test_entropy_of_the_right_answers_of_a_uniform_policy():
    # 8 answers, all equally likely, 4 of them right, each of two tokens: the right ones have log(4) / 2 nats a token
    texts = [str(number % 8) for number in range(128)]
    answers = Answers("p", texts, [-math.log(8)] * 128, [2] * 128)
    found = measured([answers], lambda text, prompt: int(text) < 4)
    # psi(64) - psi(128) in place of log(1/2): the samples do not know the share of right answers exactly
    assert found["right_entropy"] == pytest.approx(math.log(4) / 2, abs=0.003)
    assert found["pass1"] == 0.5
    assert found["pass64"] == 1.0
    assert found["distinct"] == pytest.approx(4.0, abs=0.01)


def test_nothing_right():
    found = measured([Answers("p", ["x"] * 128, [-1.0] * 128, [1] * 128)], lambda text, prompt: False)
    assert math.isnan(found.pop("right_entropy"))
    assert set(found.values()) == {0.0}
