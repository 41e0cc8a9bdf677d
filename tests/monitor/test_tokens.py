"""The one set of tokens that every statistic runs over."""

import math
from dataclasses import replace

import pytest
import torch

from entropo_plugin.monitor import StepTokens, step_metrics

NAN = float("nan")


def rows(entropy, mask):
    full = torch.ones(len(entropy), len(entropy[0]))
    length = torch.full((len(entropy),), full.shape[1])
    return StepTokens(torch.tensor(mask), -full, None, length, ["a"] * len(entropy), entropy=torch.tensor(entropy))


def test_a_rejected_row_is_in_no_statistic():
    """Row of H = 3 rejected, row of H = 1 kept: mean and median 1, count 3 of 6."""
    tokens = rows([[3.0] * 3, [1.0] * 3], [[0] * 3, [1] * 3])
    found = step_metrics(tokens)
    assert tokens.entropy_sum() == (3.0, 3)
    assert found["entropo/entropy/token_mean"] == found["entropo/entropy/q50"] == 1.0
    assert found["entropo/tokens/count"] == 3


@pytest.mark.parametrize("broken", [NAN, math.inf, -math.inf])
def test_a_broken_entropy_leaves_the_sum_and_its_count(broken):
    tokens = rows([[3.0, broken, 1.5]], [[1, 1, 1]])
    assert tokens.entropy_sum() == (4.5, 2)
    assert step_metrics(tokens)["entropo/entropy/token_mean"] == 2.25


def test_the_sum_is_exact_where_fp32_is_not():
    tokens = rows([[1e8, 1.0, 1.0, 1.0]], [[1, 1, 1, 1]])
    assert tokens.entropy_sum() == (100000003.0, 4)


def test_without_an_entropy_there_is_nothing_to_sum(step):
    assert replace(step, entropy=None).entropy_sum() == (0.0, 0)
    assert replace(step, response_mask=torch.zeros(4, 3)).entropy_sum() == (0.0, 0)


def test_an_impossible_token_stays_where_p_weighs_and_leaves_where_it_does_not(step):
    """-inf stays as -1e4; NaN and +inf leave in both cases; without -inf the two sets are the same."""
    logp = step.old_log_probs.clone()
    logp[0, 0], logp[3, 0], logp[3, 1] = -math.inf, NAN, math.inf
    tokens = replace(step, old_log_probs=logp)
    assert tokens.flat("old_log_probs", impossible=True)[0].tolist() == [-1e4, -2.0, -3.0, -1.0, -0.5, -0.5, -5.0]
    assert tokens.flat("old_log_probs")[0].tolist() == [-2.0, -3.0, -1.0, -0.5, -0.5, -5.0]
    assert step.keep("old_log_probs", impossible=True) is None
    assert step_metrics(tokens)["entropo/tokens/nonfinite_share"] == pytest.approx(3 / 9)


def test_an_infinite_entropy_leaves_both_sets(step):
    entropy = step.entropy.clone()
    entropy[0, 0] = -math.inf
    tokens = replace(step, entropy=entropy)
    assert len(tokens.flat("old_log_probs", "entropy", impossible=True)[0]) == 8
