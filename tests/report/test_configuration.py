"""How a run was started: from run.json, Hydra's folder or verl's log; and what differs between two runs."""

import json
import shlex

import pytest

from entropo_plugin.hosts.run_file import write_description
from entropo_plugin.report.configuration import Setup
from entropo_plugin.report.runs import read_runs
from entropo_plugin.report.sections.setup import differences, setup_section

METRICS = {1: {"actor/entropy": 1.0}}


def one(path):
    (run,) = read_runs([str(path)])
    return run


def hydra(folder, config="lr: 1e-6\nactor:\n  clip: 0.2\n", overrides="- lr=1e-6\n- a b=1\n"):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "overrides.yaml").write_text(overrides)


@pytest.mark.parametrize("place", ["grpo/.hydra", "grpo/hydra/.hydra", ".hydra"])
def test_hydras_folder_beside_the_log_or_above(log, tmp_path, place):
    pytest.importorskip("yaml")
    path = log("grpo/metrics.jsonl", METRICS)
    hydra(tmp_path / place)
    setup = one(path).setup
    assert setup.config == {"lr": "1e-6", "actor.clip": "0.2"}
    assert setup.command == "python -m verl.trainer.main_ppo lr=1e-6 'a b=1'"


def test_the_configuration_that_verl_prints_into_its_log(log):
    path = log("grpo/metrics.jsonl", METRICS)
    ray = "\x1b[36m(TaskRunner pid=12)\x1b[0m "
    lines = [
        "Starting",
        f"{ray}{{'actor': {{'clip': 0.2,",
        f"{ray}           'lr': 1e-06}},",
        f"{ray} 'seed': None}}",
        "{'no': 1}",
    ]
    (path.parent / "train.log").write_text("\n".join(lines))
    assert one(path).setup.config == {"actor.clip": "0.2", "actor.lr": "1e-06", "seed": "None"}


def test_what_our_trainers_write_down(log, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--lr", "1e-6"])
    path = log("metrics.jsonl", METRICS)
    write_description(path.with_name("metrics.run.json"), [], "active", {"lr": 1e-6, "model": {"path": "a"}})
    setup = one(path).setup
    assert setup.config == {"lr": "1e-06", "model.path": "a"}
    assert (setup.command, setup.started[:2]) == ("python train.py --lr 1e-6", "20")
    assert "torch" in setup.versions
    monkeypatch.setattr("sys.argv", ["/ray/workers/default_worker.py", "--node"])
    write_description(path.with_name("metrics.run.json"), [], "active", {})
    assert one(path).setup.command == ""


def test_nothing_that_may_be_a_key_goes_into_the_report(log):
    path = log("metrics.jsonl", METRICS)
    about = {"format": 1, "command": "t.py --hub_token hf_1 env.WANDB_API_KEY=2 max_tokens=3"}
    about["config"] = {"env": {"WANDB_API_KEY": "2", "password": None}, "hub_token": "hf_1", "pad_token": "x"}
    path.with_name("metrics.run.json").write_text(json.dumps(about))
    setup = one(path).setup
    assert setup.command == "t.py --hub_token *** env.WANDB_API_KEY=*** max_tokens=3"
    expected = {"env.WANDB_API_KEY": "***", "env.password": "None", "hub_token": "***", "pad_token": "x"}
    assert setup.config == expected


@pytest.mark.parametrize(
    "config", ["[", "- a\n", "a: !!python/object:os.system {}\n", "&a [*a]", "a: &a {b: *a}\n", "\x00"]
)
@pytest.mark.parametrize("printed", ["{'a':", "{'a': __import__('os')}", "{'a': " + "[" * 10_000, "{'a': 1}}"])
def test_damaged_settings_cost_nothing(log, tmp_path, config, printed):
    path = log("grpo/metrics.jsonl", METRICS)
    hydra(path.parent / ".hydra", config, "{")
    (path.parent / "train.log").write_text(printed)
    path.with_name("metrics.run.json").write_text(json.dumps({"format": 1, "versions": 3, "config": [1], "date": {}}))
    assert one(path).setup.config == {}


def test_settings_that_are_nested_without_end_cost_nothing(log):
    path = log("grpo/metrics.jsonl", METRICS)
    nested = '{"format": 1, "config": ' + '{"a": ' * 980 + "1" + "}" * 981
    path.with_name("metrics.run.json").write_text(nested)
    assert len(one(path).setup.config) <= 1


def test_settings_that_differ_are_a_table(log):
    runs = [one(log(f"{name}.jsonl", METRICS)) for name in "ab"]
    runs[0].setup, runs[1].setup = Setup({"lr": "1", "clip": "0.2"}), Setup({"lr": "2", "clip": "0.2", "x": "y"})
    assert differences(runs) == [["lr", "1", "2"], ["x", "\u2013", "y"]]
    (table,) = setup_section(runs).tables
    assert (table.caption, list(table.heads)) == ("Settings that differ", ["setting", "a", "b"])


def test_the_demos_runs_tell_how_they_were_started():
    from entropo_plugin.report.command import EXAMPLE

    runs = read_runs([str(EXAMPLE)])
    assert [run.name for run in runs] == ["grpo", "kl_loss", "repo_r"]
    assert "+entropo=monitor" in shlex.split(runs[0].setup.command)
    assert ["entropo.methods", "[]"] not in differences(runs)
    assert any(row[0].startswith("entropo.") for row in differences(runs))
    assert all(run.setup.started.startswith("2026-11-26") and run.tokens for run in runs)
