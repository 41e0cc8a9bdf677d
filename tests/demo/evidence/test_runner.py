"""The runner on real, short trainings."""

import csv
import logging
import math
from pathlib import Path

import pytest
import torch

from entropo_plugin.demo import task as sums_task
from entropo_plugin.demo.evidence import reward, rows, runner, tasks, train
from entropo_plugin.demo.evidence.arms import EVERY
from entropo_plugin.demo.evidence.model import examples

ARMS_RUN = ["grpo", "KL in reward 0.1"]


def untrained(out, seed=0):
    """A start that cost no warm start."""
    tok = sums_task.tokenizer(tasks.SUMS.characters)
    model = sums_task.new_model(tok, seed, 32, 1)
    for each in (tok, model):
        each.save_pretrained(out / "starts" / f"sums-{seed}")
    return tok, model


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    untrained(folder)
    assert runner.run_all(runner.planned(["sums"], ARMS_RUN, [1.0], [0], 2), folder, 1) == 0
    return folder


def test_a_row_and_a_curve_for_each_run(out):
    found = rows.read(out / "results.csv")
    assert [row["arm"] for row in found] == ARMS_RUN
    for row in found:
        assert not row["error"]
        # 19 words, all as likely as not
        assert float(row["entropy_start"]) == pytest.approx(math.log(len(sums_task.SPECIALS) + 13), abs=0.02)
        assert float(row["trained_pass64"]) >= float(row["trained_pass1"])
        assert row["rollouts_to_half"] == "inf"
        assert "trl=1.16" in row["versions"]
    curve = list(csv.DictReader((out / "runs" / "sums-grpo-1-0" / "curve.csv").open()))
    assert [each["rollout"] for each in curve] == ["1", "2"]
    assert (out / "runs" / "sums-grpo-1-0" / "model" / "config.json").exists()


def test_a_run_goes_on_from_the_model_of_another_task(out):
    (plan,) = runner.planned(["rising_sums"], ["grpo"], [1.0], [0], 1, after="sums")
    level = logging.getLogger("entropo_plugin").level
    row = runner.run_one(plan, out)
    assert "error" not in row
    # what a run of its own process silences is not silenced in this one
    assert logging.getLogger("entropo_plugin").level == level
    # the first policy is that of the run before: nearly uniform, as it was trained on two batches only
    assert row["entropy_start"] == pytest.approx(math.log(20), abs=0.05)


def test_what_stands_in_the_table_is_not_run_again(out, monkeypatch):
    monkeypatch.setattr(runner, "_results", lambda plan, *unused: iter([(each, {}) for each in plan]))
    before = (out / "results.csv").read_text()
    assert runner.run_all(runner.planned(["sums"], ARMS_RUN, [1.0], [0], 2), out, 1) == 0
    assert (out / "results.csv").read_text() == before


def test_another_length_and_a_changed_arm_are_other_runs(out):
    table = rows.Table(out / "results.csv")
    (plan,) = runner.planned(["sums"], ["grpo"], [1.0], [0], 2)
    assert table.has(plan.identity)
    assert not table.has(runner.planned(["sums"], ["grpo"], [1.0], [0], 3)[0].identity)
    assert not table.has(plan.identity | {"settings": "{}"})


def test_a_cut_line_is_run_again(out, tmp_path):
    whole = (out / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(whole[:-40])
    assert [row["arm"] for row in rows.read(tmp_path / "results.csv")] == ["grpo"]
    rows.Table(tmp_path / "results.csv").add({"arm": "rloo"})
    assert [row["arm"] for row in rows.read(tmp_path / "results.csv")] == ["grpo", "rloo"]


def test_other_columns_are_refused(tmp_path):
    (tmp_path / "results.csv").write_text("task,arm\n")
    with pytest.raises(ValueError, match=r"Move it away, or use another --out"):
        rows.Table(tmp_path / "results.csv")


def test_an_error_becomes_a_row(tmp_path):
    (plan,) = runner.planned(["sums"], ["grpo"], [1.0], [0], 1, after="walk")
    assert "error" in runner.run_one(plan, tmp_path)


def test_kl_in_the_reward_is_the_log_ratio(tmp_path):
    tok, model = untrained(tmp_path)
    _, other = untrained(tmp_path, seed=1)
    prompts, texts = ["10=", "9="], ["381", "27"]
    ids = [tok(text)["input_ids"] for text in texts]
    asked = reward.Reward(tasks.SUMS, 0.5, other, tok)
    asked.start = model
    expected = []
    for prompt, answer in zip(prompts, ids, strict=True):
        first = tok(prompt)["input_ids"]
        both = [each(torch.tensor([first + answer])).logits[0].log_softmax(-1) for each in (other, model)]
        now, then = (sum(z[len(first) - 1 + i, a].item() for i, a in enumerate(answer)) for z in both)
        expected.append(-0.5 * (now - then))
    expected[1] += tasks.SUMS.right("27", "9=")
    assert asked(prompts, texts, ids) == pytest.approx(expected, abs=1e-5)
    assert reward.Reward(tasks.SUMS, 0.0, model, tok)(["9=", "9="], ["027", "028"], []) == [1.0, 0.0]


def test_warm_start_examples_are_read_behind_their_prompts(tmp_path):
    tok, _ = untrained(tmp_path)
    ids, answers = examples(tok, tasks.SUMS, tasks.random.Random(0))
    assert ids.shape == answers.shape == (128, 7)
    assert answers.sum(-1).tolist() == [4] * 128
    assert (ids[:, -1] == tok.eos_token_id).all()


def test_every_arm_starts(tmp_path):
    untrained(tmp_path)
    for name, arm in EVERY.items():
        job = train.Job(name, 1.0, 0, 1, tmp_path / "starts" / "sums-0")
        assert train._trainer(tasks.SUMS, arm, job, Path(tmp_path, "out")).args.max_steps == 4
