from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.monitor.samples import diversity_metrics, pass_at_k, pass_metrics, powers


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n):
    for right in range(n + 1):
        for k in range(1, n + 1):
            draws = list(combinations([i < right for i in range(n)], k))
            assert pass_at_k(n, right, k) == sum(map(any, draws)) / len(draws)


def test_pass_at_k_worked_by_hand():
    assert pass_at_k(4, 1, 2) == 0.5
    assert pass_at_k(5, 2, 2) == 0.7  # 1 - C(3,2)/C(5,2) = 1 - 3/10
    assert pass_at_k(10, 0, 10) == 0.0
    assert pass_at_k(10, 1, 10) == 1.0
    assert pass_at_k(10**6, 1, 1) == 1e-6
    assert pass_at_k(4096, 1, 2048) == 0.5


@settings(deadline=None)
@given(st.integers(1, 64), st.data())
def test_pass_at_k_grows_with_k_and_with_right_answers(n, data):
    right, k = data.draw(st.integers(0, n - 1)), data.draw(st.integers(1, n))
    assert pass_at_k(n, right, k) <= pass_at_k(n, right + 1, k)
    if k < n:
        assert pass_at_k(n, right, k) <= pass_at_k(n, right, k + 1)


def test_pass_at_k_refuses_what_it_cannot_mean():
    with pytest.raises(ValueError, match="1 <= k <= n"):
        pass_at_k(4, 1, 5)


def test_powers_end_at_the_group_size():
    assert [powers(n) for n in (1, 2, 3, 6, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_pass_metrics_worked_by_hand(step):
    assert pass_metrics(step) == {"entropo/pass_at/1": 0.5, "entropo/pass_at/2": 1.0}
    # At threshold .25 row 1, with a score of .5, is right too.
    assert pass_metrics(step, threshold=0.25) == {"entropo/pass_at/1": 0.75, "entropo/pass_at/2": 1.0}


def test_pass_metrics_with_unequal_groups(step):
    uneven = replace(step, uid=["a", "a", "a", "b"])
    # a: 1 of 3 right; b: 1 of 1. pass@2 and pass@3 are a's alone.
    assert pass_metrics(uneven) == pytest.approx(
        {"entropo/pass_at/1": (1 / 3 + 1) / 2, "entropo/pass_at/2": 2 / 3, "entropo/pass_at/3": 1.0}
    )


def test_diversity_worked_by_hand(step):
    assert diversity_metrics(step) == {
        "entropo/diversity/group_size": 2.0,
        "entropo/diversity/distinct": 2.0,
        "entropo/diversity/distinct_right": 1.0,
        "entropo/diversity/mixed_share": 1.0,
    }


def test_responses_are_compared_up_to_their_length(step):
    same = replace(step, response_length=torch.tensor([1, 1, 2, 2]))
    found = diversity_metrics(same)
    assert found["entropo/diversity/distinct"] == 1.0
    # A score beyond a response's length does not count: nobody is right any more.
    assert found["entropo/diversity/distinct_right"] == 0.0
    assert found["entropo/diversity/mixed_share"] == 0.0


def test_lengths_may_come_as_floats(step):
    floats = replace(step, response_length=step.response_length.float())
    assert diversity_metrics(floats) == diversity_metrics(step)
    assert pass_metrics(floats) == pass_metrics(step)
