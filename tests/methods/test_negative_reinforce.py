"""W-REINFORCE: literal numbers, what counts as right, and what is refused."""

import pytest
import torch
from golden import rollout, run_of, train

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import remarks

BEHIND = {"estimator": "negative_reinforce"}


def advantages(rewards, **settings):
    run = run_of("negative_reinforce", facts=BEHIND, negative_reinforce=settings)
    return (
        run.methods[0].baseline(torch.tensor(rewards, dtype=torch.float64), torch.zeros(len(rewards)).long()).tolist()
    )


def test_the_golden_advantages():
    assert advantages([1.0, 0.0]) == [0.1, -1.0]
    assert advantages([0.5, 0.49, -3.0, 7.0]) == [0.1, -1.0, -1.0, 0.1]
    assert advantages([1.0, 0.0, -1.0], threshold=0.0, weight=0.0) == [0.0, 0.0, -1.0]


def test_through_verl_each_response_has_its_own(monkeypatch):
    rows = rollout()
    scores = {each["key"]: float(each["fields"]["rm_scores"].sum()) for each in rows}
    training, _ = train(monkeypatch, "+entropo=negative_reinforce", entropo__negative_reinforce__threshold=0.0)
    field = training.field("advantages")
    assert {key: float(field[key][0]) for key in scores} == {
        key: pytest.approx(0.1 if score >= 0 else -1.0) for key, score in scores.items()
    }


def test_beside_another_estimator_it_is_refused():
    with pytest.raises(ConfigError, match="Set algorithm.adv_estimator=negative_reinforce, or take"):
        list(remarks(run_of("negative_reinforce").methods))


@pytest.mark.parametrize("settings", [{"weight": -0.1}, {"weight": 1e9}, {"threshold": float("nan")}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="entropo.negative_reinforce.*out of range"):
        parse({"negative_reinforce": settings})
