"""reasoning-gym's tasks as verl's data and reward."""

import json
import sys

import pandas
import pytest

from entropo_plugin.cli import main
from entropo_plugin.tasks import gym

pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning")


def test_data_and_reward_of_two_tasks(tmp_path, capsys):
    assert main(["tasks", "chain_sum", "gcd", "--out", str(tmp_path), "--size", "5", "--test", "4"]) == 0
    assert "reward.custom_reward_function.path=pkg://entropo_plugin.tasks.gym" in capsys.readouterr().out
    train, test = (pandas.read_parquet(tmp_path / f"{name}.parquet") for name in ("train", "test"))
    assert list(train["data_source"]) == ["reasoning_gym/chain_sum", "reasoning_gym/gcd"] * 2 + [
        "reasoning_gym/chain_sum"
    ]
    assert len(test) == 4 and test["prompt"][0][0]["content"] != train["prompt"][0][0]["content"]
    for row in train.to_dict("records"):
        right = row["reward_model"]["ground_truth"]
        about = (row["data_source"],)
        for text, wanted in ((f"so <answer> {right} </answer>", 1.0), (f"{right}", 0.0), ("<answer>x</answer>", 0.0)):
            assert gym.compute_score(*about, text, right, row["extra_info"]) == wanted
        assert gym.compute_score(*about, f"<answer>x</answer><answer>{right}</answer>", right, row["extra_info"]) == 1.0


def test_other_right_answers_count_and_part_scores_stay():
    entry = {
        "question": "",
        "answer": "1 + 2",
        "metadata": {"source_dataset": "countdown", "numbers": [1, 2], "target": 3},
    }
    extra = gym.row("countdown", entry)["extra_info"]
    scores = [
        gym.compute_score("reasoning_gym/countdown", f"<answer>{each}</answer>", "", extra) for each in ("2+1", "1")
    ]
    assert scores[0] == 1.0 and 0 <= scores[1] < 0.1
    assert json.loads(extra["entry"]) == entry


def test_the_names_and_what_is_missing(monkeypatch, capsys, tmp_path):
    assert main(["tasks"]) == 0
    listed = capsys.readouterr().out.strip().split(", ")
    assert {"chain_sum", "countdown", "gcd"} < set(listed) and not gym.UNFIT & set(listed)
    assert main(["tasks", "no_such_task", "--out", str(tmp_path)]) == 2
    assert "no task 'no_such_task'" in capsys.readouterr().err and not list(tmp_path.iterdir())
    monkeypatch.setattr(gym, "find_spec", lambda name: None)
    assert main(["tasks"]) == 2
    assert "pip install 'entropo-plugin[tasks]'" in capsys.readouterr().err
    assert "reasoning_gym" in sys.modules


def test_the_list_is_that_of_reasoning_gym():
    from reasoning_gym.factory import DATASETS

    assert gym.names() == sorted(set(DATASETS) - gym.UNFIT)
