"""QAE: literal numbers, groups, sessions counted once, and what is refused."""

import harness
import pytest
import torch
from golden import run_of, train

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import describe, remarks
from entropo_plugin.objectives import group_quantile, group_std

BEHIND = {"estimator": "quantile_baseline", "group_size": 8}


def advantages(rewards, group=None, **settings):
    run = run_of("quantile_baseline", facts=BEHIND, quantile_baseline=settings)
    rewards = torch.tensor(rewards, dtype=torch.float64)
    return run.methods[0].baseline(rewards, torch.zeros(len(rewards), dtype=torch.long) if group is None else group)


@pytest.mark.parametrize(
    ("right", "success", "failure"), [(1, 3.023707, 0), (4, 1.999996, 0), (5, 0, -2.065587), (6, 0, -2.309396)]
)
def test_the_golden_advantages(right, success, failure):
    found = advantages([1.0] * right + [0.0] * (8 - right)).tolist()
    assert found == pytest.approx([success] * right + [failure] * (8 - right), abs=1e-6)


def test_every_prompt_has_its_own_quantile():
    group = torch.tensor([0, 1] * 4)
    found = advantages([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0], group)
    assert found.tolist() == pytest.approx([2.309396, 0, 0, 0, 0, 0, 0, -2.309396], abs=1e-6)


def test_the_quantile_is_a_reward_that_was_given():
    rewards = torch.arange(100, dtype=torch.float64).flip(0)
    group = torch.zeros(100, dtype=torch.long)
    # 0.55 * 100 is 55.00000000000001 in floats
    assert [float(group_quantile(rewards, group, share)[0]) for share in (0.004, 0.55, 0.551, 1.0)] == [0, 54, 55, 99]
    assert float(group_std(torch.tensor([0.0, 2.0]), torch.tensor([0, 0]))[0]) == 1.0


def test_equal_rewards_and_a_response_alone_learn_nothing():
    assert advantages([0.3] * 4).tolist() == [0] * 4
    assert advantages([0.7, 0.2], torch.tensor([0, 1])).tolist() == [0, 0]
    alone = run_of("quantile_baseline", facts=BEHIND | {"group_size": 1})
    assert "every advantage will be 0" in next(iter(remarks(alone.methods)))


@pytest.mark.parametrize(
    ("size", "share", "end"),
    [(2, 0.4, "smallest"), (2, 0.6, "largest"), (8, 0.1, "smallest"), (8, 0.9, "largest"), (3, 0.4, ""), (8, 0.4, "")],
)
def test_a_quantile_that_is_an_end_of_the_group_is_said(size, share, end):
    run = run_of("quantile_baseline", facts=BEHIND | {"group_size": size}, quantile_baseline={"quantile": share})
    said = [each for each in remarks(run.methods) if "of their rewards" in each]
    assert [f"is the {end} of their rewards" in each for each in said] == [True] * bool(end)


def test_through_verl_a_session_counts_once(monkeypatch):
    """The first response's second output has another score; the quantile sees the last outputs alone."""
    policy, rows = harness.Policy(dtype=torch.float64), []
    prompt, logp = torch.tensor([3, 4]), torch.full((2,), -1.0, dtype=torch.float64)
    for session, score in enumerate([1.0, 0.0, 0.0, 0.0]):
        rows.append(harness.row("p0", session, prompt, torch.tensor([1, 2]), logp, score))
    rows.append(harness.row("p0", 0, prompt, torch.tensor([5, 6]), logp, 1.0, output=1))
    rows[0]["fields"]["rm_scores"] = torch.zeros(2, dtype=torch.float64)
    training, _ = train(monkeypatch, "+entropo=quantile_baseline", rows=rows)
    field = training.field("advantages")
    assert policy and float(field["p0_0_1"][0]) == pytest.approx(1 / (3**0.5 / 4 + 1e-6), rel=1e-6)
    assert float(field["p0_0_0"][0]) == float(field["p0_0_1"][0]) and float(field["p0_1_0"][0]) == 0


def test_repo_acts_on_its_advantages():
    run = run_of("quantile_baseline", "repo_r", facts=BEHIND)
    words = describe(run.methods, run.settings, run.methods[0].host)
    assert words.startswith("entropo: QAE advantages; REPO-R on quantile_baseline advantages; policy loss vanilla")


def test_beside_another_estimator_it_is_refused():
    with pytest.raises(ConfigError, match="algorithm.adv_estimator=grpo gives the advantages here, which QAE would"):
        list(remarks(run_of("quantile_baseline").methods))
    with pytest.raises(ConfigError, match="are both advantage estimators, and only one"):
        run_of("quantile_baseline", "negative_reinforce", facts=BEHIND)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantile": 0.0}, "quantile=0.0: the smallest or the largest reward is no baseline"),
        ({"quantile": 1.0}, "between 0 and 1"),
        ({"quantile": 1.5}, "out of range"),
        ({"eps": -1.0}, "out of range"),
    ],
)
def test_a_quantile_that_is_none_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse({"quantile_baseline": settings})
