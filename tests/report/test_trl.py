"""Runs of TRL, stock or ours, as transformers logs them."""

import json
from pathlib import Path

import pytest

from entropo_plugin.report.files import ReportError
from entropo_plugin.report.log import Log
from entropo_plugin.report.runs import read_runs
from entropo_plugin.report.sections.overview import overview_section

STOCK = [{"step": step, "entropy": 2.0 - step / 10, "reward": 0.1 * step, "loss": 0.5} for step in (1, 2, 3)]
STOCK.insert(2, {"step": 2, "eval_reward": 0.7, "eval_loss": 0.1})


def state(folder, history, name="trainer_state.json"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"global_step": 3, "log_history": history}))
    return folder


def test_a_stock_run_is_drawn_through_the_table_of_names(tmp_path):
    (run,) = read_runs([str(state(tmp_path / "sums", STOCK))])
    assert run.name == "sums"
    assert run.entropy.values.tolist() == pytest.approx([1.9, 1.8, 1.7])
    assert run.score.values.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert run.validation["evaluation"].values.tolist() == [0.7]
    assert "sums: entropy drawn from the trainer's own entropy" in overview_section([run]).remarks[0]


def test_our_own_entropy_comes_first(tmp_path):
    ours = [entry | {"entropo/entropy/token_mean": 1.0} for entry in STOCK if "entropy" in entry]
    (run,) = read_runs([str(state(tmp_path / "sums", ours))])
    assert run.entropy.values.tolist() == [1.0, 1.0, 1.0]


def test_the_newest_checkpoint_speaks_for_a_run_that_was_not_finished(tmp_path):
    for step in (2, 10, 9):
        state(tmp_path / "sums" / f"checkpoint-{step}", STOCK[:step])
    (run,) = read_runs([str(tmp_path / "sums")])
    assert run.name == "sums"
    assert run.last_step == 3


def test_the_runs_own_description_is_found_beside_its_checkpoints(tmp_path):
    state(tmp_path / "sums" / "checkpoint-2", STOCK)
    about = {"format": 1, "line": "entropo: REPO-R", "coefficients": {}}
    (tmp_path / "sums" / "run.json").write_text(json.dumps(about))
    (run,) = read_runs([str(tmp_path / "sums")])
    assert run.about.line == "entropo: REPO-R"


def test_several_output_folders_are_several_runs(tmp_path):
    for name in ("a", "b"):
        state(tmp_path / name / "checkpoint-2", STOCK)
    assert [run.name for run in read_runs([str(tmp_path)])] == ["a", "b"]


def test_tensorboard_of_transformers_goes_by_the_output_folder(tmp_path, monkeypatch):
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(
        str(tmp_path / "sums" / "runs" / "Nov25_host")
    )
    for step in (1, 2):
        writer.add_scalar("train/entropy", 2.0, step)
        writer.add_scalar("train/entropo/entropy/token_mean", 1.5, step)
        writer.add_scalar("eval/reward", 0.5, step)
    writer.close()
    state(tmp_path / "sums" / "checkpoint-1", STOCK)
    (run,) = read_runs([str(tmp_path / "sums")])
    assert run.name == "sums"
    assert run.entropy.values.tolist() == [1.5, 1.5]
    assert run.validation["evaluation"].values.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"log_history": 3}', '{"log_history": [', "[" * 10**5])
def test_another_file_of_that_name_is_refused(tmp_path, text):
    (tmp_path / "trainer_state.json").write_text(text)
    with pytest.raises(ReportError, match="trainer_state.json"):
        read_runs([str(tmp_path)])


def test_entries_that_are_no_records_are_passed_over(tmp_path):
    history = [None, 3, {"entropy": 1.0}, {"step": "x"}, {"step": 1, "entropy": "nan"}, {"step": 2, "entropy": 1.5}]
    (run,) = read_runs([str(state(tmp_path / "sums", history))])
    assert run.entropy.values.tolist() == [1.5]


OTHERS = {
    "skyrl": {
        "policy/policy_entropy": 1.5,
        "policy/policy_kl": 9.0,
        "reward/avg_raw_reward": 0.4,
        "policy/raw_grad_norm": 0.2,
        "policy/ppo_clip_ratio": 0.01,
        "generate/avg_num_tokens": 70.0,
        "eval/all/avg_score": 0.6,
    },
    "openrlhf": {
        "train/entropy_loss": 1.5,
        "train/kl": 9.0,
        "train/ppo_kl": 0.03,
        "train/reward": 0.4,
        "train/ppo_clip_ratio": 0.01,
        "train/response_length": 70.0,
    },
}
READ = {
    "skyrl": {"actor/grad_norm": 0.2, "val-core/evaluation/mean@1": 0.6},
    "openrlhf": {"actor/ppo_kl": 0.03},
}


@pytest.mark.parametrize("host", OTHERS)
def test_other_trainers_names_are_known(host):
    log = Log(Path("run.jsonl"))
    for name, value in OTHERS[host].items():
        log.add(1, name, value)
    same = {"entropy": 1.5, "critic/score/mean": 0.4, "actor/pg_clipfrac": 0.01, "response_length/mean": 70.0}
    assert {name: values for name, (_, (values,)) in log.columns.items()} == same | READ[host]
    assert len(log.ignored) == 1
