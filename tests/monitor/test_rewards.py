"""Prompts with equal rewards: our advantages are 0, and rounding in verl's own is not taken for a signal."""

from dataclasses import replace

import pytest
import torch

from entropo_plugin.monitor import StepTokens, step_metrics
from entropo_plugin.monitor.rewards import equal_groups
from entropo_plugin.objectives import group_advantage, leave_one_out

GROUPS = torch.arange(4).repeat_interleave(7)


def equal_rewards(reward, advantages, width=3):
    """Four prompts of seven responses, every reward the same."""
    scores = torch.zeros(28, width)
    scores[:, -1] = reward
    full = torch.ones(28, width)
    return StepTokens(
        response_mask=full,
        old_log_probs=-full,
        responses=torch.arange(28 * width).view(28, width),
        response_length=torch.full((28,), width),
        uid=[str(int(each)) for each in GROUPS],
        advantages=advantages[:, None].expand(28, width),
        rm_scores=scores,
    )


@pytest.mark.parametrize("reward", [0.1, 0.3, 0.7, 1 / 3, 100.1, -1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_rewards_have_no_advantage(reward, dtype):
    scores = torch.full((28,), reward, dtype=dtype)
    for advantage in (
        leave_one_out(scores, GROUPS),
        group_advantage(scores, GROUPS),
        group_advantage(scores, GROUPS, True),
    ):
        assert torch.equal(advantage, torch.zeros(28, dtype=dtype))


def test_unequal_rewards_have_the_advantages_that_they_had():
    scores, group = torch.tensor([1.0, 0.0, 0.0, 0.5, 0.5]), torch.tensor([0, 0, 0, 1, 2])
    assert leave_one_out(scores, group).tolist() == [1.0, -0.5, -0.5, 0.0, 0.0]
    assert group_advantage(scores, group).tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3, 0.5, 0.5])


@pytest.mark.parametrize(("reward", "left"), [(0.1, -8.7e-9), (0.1, 0.0074), (0.7, 0.056), (0.1, 0.0)])
def test_what_rounding_leaves_counts_as_zero(reward, left):
    """-8.7e-9: a mean of seven rewards of .1 in fp32. .0074 and .056: verl's grpo, which divides such a rest."""
    found = step_metrics(equal_rewards(reward, torch.full((28,), left)))
    assert found["entropo/advantage/zero_share"] == 1.0
    assert found["entropo/diversity/equal_share"] == 1.0


def test_rewards_that_differ_by_rounding_are_equal():
    """.1 + .2 and .3, one step of fp32 apart, of which verl's grpo makes -.014 and .014."""
    above = torch.arange(28) % 2 == 0
    rewards = torch.where(above, torch.tensor(0.3).nextafter(torch.tensor(1.0)), torch.tensor(0.3))
    found = step_metrics(equal_rewards(rewards, torch.where(above, 0.014, -0.014)))
    assert len(rewards.unique()) == 2
    assert found["entropo/diversity/equal_share"] == 1.0 and found["entropo/advantage/zero_share"] == 1.0


def test_what_differs_from_token_to_token_is_no_rounding():
    tokens = equal_rewards(0.1, torch.zeros(28))
    shaped = torch.full((28, 3), 0.01)
    shaped[:7, 0] = 0.02
    found = step_metrics(replace(tokens, advantages=shaped))
    assert found["entropo/advantage/zero_share"] == 0.75


def test_a_large_advantage_of_equal_rewards_is_no_rounding():
    assert step_metrics(equal_rewards(0.1, torch.ones(28)))["entropo/advantage/zero_share"] == 0.0


def test_groups_of_one_are_not_equal_groups():
    tokens = equal_rewards(0.1, torch.zeros(28))
    alone = replace(tokens, uid=[str(row) for row in range(28)])
    assert equal_groups(alone) == [] and len(equal_groups(tokens)) == 4
    assert step_metrics(alone)["entropo/diversity/equal_share"] == 0.0
    assert equal_groups(replace(tokens, rm_scores=None)) == []
