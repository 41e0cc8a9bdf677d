import numpy as np
import pytest
import torch
from runs import run_of
from verl.trainer.ppo.core_algos import (
    ADV_ESTIMATOR_REGISTRY,
    compute_grpo_outcome_advantage,
    compute_rloo_outcome_advantage,
)

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.driver import estimators

UID = np.array(["a", "a", "a", "b", "b", "c"], dtype=object)
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])
REWARDS = torch.tensor([[0, 1.0, 0], [0, 0, 0], [0, 0, 0.5], [0, 2.0, 0], [-1, 0, 0], [0, 0, 3.0]])


def base(keys=None, rewards=REWARDS, mask=MASK, uid=UID, **repo):
    (method,) = run_of(estimator="repo_r", repo=repo).methods
    with estimators.batch(method, keys):
        advantages, returns = estimators.base_advantage(token_level_rewards=rewards, response_mask=mask, index=uid)
    assert torch.equal(advantages, returns)
    return advantages


def test_leave_one_out_by_hand():
    rows = base()[:, 0].tolist()
    assert rows == pytest.approx([0.75, -0.75, 0.0, 3.0, -3.0, 0.0], abs=1e-6)
    assert torch.equal(base() != 0, (MASK.bool() & (base()[:, :1] != 0)))


def test_equals_verls_rloo_where_a_group_has_company():
    theirs, _ = compute_rloo_outcome_advantage(REWARDS.clone(), MASK, index=UID)
    assert torch.allclose(base()[:5], theirs[:5], rtol=0, atol=1e-6)


@pytest.mark.parametrize("std", [False, True])
def test_equals_verls_grpo(std):
    theirs, _ = compute_grpo_outcome_advantage(REWARDS.clone(), MASK, index=UID, norm_adv_by_std_in_grpo=std)
    assert torch.allclose(base(base="grpo", std=std), theirs, rtol=0, atol=1e-6)


def test_equal_rewards_give_zero():
    assert base(rewards=torch.ones(6, 3)).abs().max() == 0.0
    assert base(base="grpo", std=True, rewards=torch.ones(6, 3))[:5].abs().max() == 0.0


def test_small_advantages_are_dropped():
    assert base(min_advantage=0.8)[:, 0].tolist() == pytest.approx([0, 0, 0, 3.0, -3.0, 0])


def test_a_sessions_last_output_speaks_for_all_of_them():
    # session a_0 has two outputs (rows 0 and 1, the later one first), a_1 one: R = 0, R = .5
    keys = ["a_0_1", "a_0_0", "a_1_0"]
    rewards = torch.tensor([[0, 0.0, 0], [0, 9.0, 0], [0, 0, 0.5]])
    assert base(keys=keys, rewards=rewards, mask=torch.ones(3, 3), uid=UID[:3])[:, 0].tolist() == [-0.5, -0.5, 0.5]


def test_registered_under_our_names():
    found = [ADV_ESTIMATOR_REGISTRY[name] for name in ("repo_r", "repo_d", "repo_neutral")]
    # on a verl that has a repo_r of its own (patches/0005), ours gives way to it outside our trainer
    assert [function.__module__ for function in found] == ["entropo_plugin.hosts.verl.driver.estimators"] * 3
    assert found[1] is found[2] is estimators.base_advantage


def test_outside_our_trainer_it_says_what_to_do():
    with pytest.raises(ConfigError, match=r"runs only under our trainer. Use \+entropo=NAME, which sets both"):
        estimators.base_advantage(REWARDS, MASK, index=UID)
