"""A reward that is NaN or infinite: the training stops before the update, or the step goes on without the response."""

import logging
import math

import harness
import pytest
import torch

from entropo_plugin.hosts.verl.driver.broken_rewards import BrokenReward

RIGHT = (1.0, 0.0, 0.0, 1.0)


def rollout(scores=RIGHT, broken=(), value=math.nan, length=3):
    """Two prompts of four responses of three tokens; row numbers in ``broken`` have ``value`` as their reward."""
    rows, prompt, logp = [], torch.tensor([1, 2]), torch.full((length,), -1.0)
    for number, score in enumerate([*scores, *scores]):
        tokens = torch.tensor([3, 4, number % harness.VOCABULARY])
        reward = value if number in broken else score
        rows.append(harness.row(f"p{number // 4}", number % 4, prompt, tokens, logp, reward))
    return rows


def training(monkeypatch, *overrides):
    small = ["data.train_batch_size=2", f"{harness.ACTOR}.ppo_mini_batch_size=2", "algorithm.adv_estimator=rloo"]
    return harness.Training(harness.configuration(*small, *overrides), monkeypatch)


def advantages(run):
    """Of each row, at its first token."""
    return {key: float(row[0]) for key, row in run.field("advantages").items()}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_training_stops_before_the_update(monkeypatch, value):
    run = training(monkeypatch, "+entropo=monitor")
    weights = run.policy.table.clone()
    words = r"step 1: 2 of 8 responses have a reward that is NaN or infinite \(p0_1_0 first\).* entropo.nan_reward=drop"
    with pytest.raises(BrokenReward, match=words):
        run.step(rollout(broken=(1, 6), value=value))
    assert run.ranks.losses == [] and torch.equal(run.policy.table, weights)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_response_that_is_dropped_is_in_no_loss_no_baseline_and_no_statistic(monkeypatch, value, caplog):
    """Of p0 1, 0 and 1 are left: leave-one-out gives .5, -1 and .5; p1 has 2/3, -2/3, -2/3 and 2/3."""
    run = training(monkeypatch, "+entropo=monitor", "entropo.nan_reward=drop")
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        found = run.step(rollout(broken=(1,), value=value))
    assert "step 1: 1 of 8 responses have a reward that is NaN or infinite" in caplog.text
    third = 2 / 3
    expected = [0.5, 0.0, -1.0, 0.5, third, -third, -third, third]
    assert list(advantages(run).values()) == pytest.approx(expected, abs=1e-6)
    assert run.field("response_mask")["p0_1_0"].tolist() == [0, 0, 0]
    assert found["entropo/tokens/count"] == 21 and found["entropo/dropped_share"] == 0.125
    assert found["entropo/diversity/group_size"] == 3.5
    assert found["entropo/pass_at/1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert all(map(math.isfinite, run.ranks.losses)) and run.policy.table.isfinite().all()
    assert not [name for name, each in found.items() if not math.isfinite(each)]


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gae", "reinforce_plus_plus", "repo_r"])
def test_every_estimator_goes_on_without_it(monkeypatch, estimator):
    run = training(monkeypatch, "+entropo=repo_r", f"algorithm.adv_estimator={estimator}", "entropo.nan_reward=drop")
    run.step(rollout(broken=(0, 5)))
    found = run.field("advantages")
    assert all(row.isfinite().all() for row in found.values())
    # verl's own gae gives masked tokens a value
    assert all((found[key] * run.field("response_mask")[key]).tolist() == [0, 0, 0] for key in ("p0_0_0", "p1_1_0"))
    assert run.policy.table.isfinite().all()


def test_nothing_is_dropped_from_a_sound_batch(monkeypatch):
    plain = training(monkeypatch, "+entropo=monitor")
    expected = plain.step(rollout())
    run = training(monkeypatch, "+entropo=monitor", "entropo.nan_reward=drop")
    found = run.step(rollout())
    assert found.pop("entropo/dropped_share") == 0.0
    for metrics in (expected, found):
        del metrics["entropo/monitor/seconds"]
    assert found == expected and run.ranks.losses == plain.ranks.losses


def test_all_rows_of_a_session_go(monkeypatch):
    run = training(monkeypatch, "+entropo=monitor", "entropo.nan_reward=drop")
    rows = rollout(broken=(1,))
    rows[2]["key"] = "p0_1_1"
    found = run.step(rows)
    assert found["entropo/tokens/count"] == 18 and found["entropo/dropped_share"] == pytest.approx(1 / 7)
    assert [advantages(run)[key] for key in ("p0_1_0", "p0_1_1")] == [0, 0]


def test_without_any_sound_response_the_training_stops(monkeypatch):
    run = training(monkeypatch, "+entropo=monitor", "entropo.nan_reward=drop")
    with pytest.raises(BrokenReward, match="8 of 8 responses have a reward .* Fix the reward function.$"):
        run.step(rollout(broken=range(8)))


def test_a_group_whose_finite_rewards_overflow_goes_too(monkeypatch, caplog):
    """Two rewards of 3e38 have no finite mean in fp32."""
    huge = [*rollout(scores=(3e38, 3e38, 0.0, 0.0))[:4], *rollout()[4:]]
    with pytest.raises(BrokenReward, match="4 of 8 responses have an advantage that is NaN or infinite"):
        training(monkeypatch, "+entropo=monitor").step(huge)
    run = training(monkeypatch, "+entropo=monitor", "entropo.nan_reward=drop")
    found = run.step(huge)
    assert found["entropo/dropped_share"] == 0.5 and found["entropo/tokens/count"] == 12
    assert list(advantages(run).values())[:4] == [0, 0, 0, 0] and run.policy.table.isfinite().all()


def test_a_critics_nan_that_whitening_spreads_stops_the_training(monkeypatch):
    def values(self, batch, metrics):
        batch = harness.InProcess._compute_values(self, batch, metrics)
        run.store.rows["p1_2_0"]["values"][0] = math.nan
        return batch

    run = training(monkeypatch, "+entropo=monitor", "algorithm.adv_estimator=gae", "entropo.nan_reward=drop")
    monkeypatch.setattr(type(run.trainer), "_compute_values", values)
    with pytest.raises(BrokenReward, match="8 of 8 responses have an advantage that is NaN or infinite"):
        run.step(rollout())
