"""Logs packed by gzip, W&B's own file and W&B's CSV."""

import gzip
import json
from pathlib import Path

import pytest

from entropo_plugin.report.files import ReportError, lines
from entropo_plugin.report.runs import read_runs

# written by wandb 0.31.0: 30 steps in five of LevelDB's blocks, so that records lie in several pieces
WANDB = gzip.decompress((Path(__file__).parent / "data" / "offline-run.wandb.gz").read_bytes())


@pytest.fixture
def offline(tmp_path):
    path = tmp_path / "wandb" / "offline-run-20261126_012900-fxcigvzc" / "run-fxcigvzc.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(WANDB)
    return path


def test_wandbs_offline_folder_goes_by_the_name_of_the_run(offline, tmp_path):
    (run,) = read_runs([str(tmp_path / "wandb")])
    assert run.name == "grpo-seed 1"
    assert run.metrics["actor/entropy"].steps.tolist() == list(range(1, 31))
    assert run.metrics["critic/score/mean"].values[-1] == 0.75
    assert run.setup.started == "2026-11-26 01:29+00:00"
    assert run.setup.config == {"lr": "1e-06", "algorithm.adv_estimator": "grpo"}


@pytest.mark.parametrize("size", [20_000, 40_000, len(WANDB) - 3])
def test_a_file_of_wandbs_that_breaks_off_is_read_up_to_there(offline, size):
    offline.write_bytes(WANDB[:size])
    (run,) = read_runs([str(offline)])
    assert 1 <= run.last_step <= 30


@pytest.mark.parametrize("content", [b"", b"text", WANDB[:7], b":W&B" + bytes(500), WANDB[:4000] + b"\xff" * 40_000])
def test_another_file_is_refused_or_read_as_far_as_it_goes(offline, content):
    offline.write_bytes(content)
    try:
        (run,) = read_runs([str(offline)])
    except ReportError as error:
        assert "run-fxcigvzc.wandb" in str(error)
    else:
        assert run.last_step <= 30


def test_a_step_of_wandbs_that_cannot_be_is_the_next_one(offline):
    offline.write_bytes(WANDB.replace(b"\x12\x05_step\x82\x01\x0230", b"\x12\x05_step\x82\x01\x02ee"))
    (run,) = read_runs([str(offline)])
    assert run.metrics["actor/entropy"].steps.tolist() == list(range(1, 31))


def test_wandbs_csv_of_several_runs_and_pictures(tmp_path):
    heads = '"Step","grpo - {0}","grpo - {0}__MIN","grpo - {0}__MAX","ours/2 - {0}"\n'
    (tmp_path / "a.csv").write_text(heads.format("actor/entropy") + '1,"0.9","0.8","1.0","0.7"\n2,"0.8","","","NaN"\n')
    (tmp_path / "b.csv").write_text(heads.format("critic/score/mean") + "0,0.1,,,\n2,0.3,,,0.4\n")
    grpo, ours = read_runs([str(tmp_path)])
    assert (grpo.name, ours.name) == ("grpo", "ours-2")
    assert grpo.metrics["actor/entropy"].values.tolist() == [0.9, 0.8]
    assert grpo.metrics["critic/score/mean"].steps.tolist() == [0, 2]
    assert ours.broken["actor/entropy"].tolist() == [2] and ours.metrics["critic/score/mean"].values.tolist() == [0.4]


def test_wandbs_csv_of_one_runs_history(tmp_path):
    (tmp_path / "grpo.csv").write_text("_step,_runtime,actor/entropy\n1,2.5,0.9\n2,3.5,0.8\nx,,\n")
    (run,) = read_runs([str(tmp_path / "grpo.csv")])
    assert (run.name, run.metrics["actor/entropy"].values.tolist()) == ("grpo", [0.9, 0.8])


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\x00", "Step\n" + '"' * 200_000])
def test_another_csv_is_refused_by_name(tmp_path, text):
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(ReportError, match="data.csv|holds no run"):
        read_runs([str(tmp_path / "data.csv")])


@pytest.mark.parametrize("name", ["metrics.jsonl.gz", "try-1.jsonl.gz"])
def test_a_packed_log_is_read_as_the_plain_one(tmp_path, name):
    path = tmp_path / "grpo" / name
    path.parent.mkdir()
    path.write_bytes(
        gzip.compress(
            b"".join(json.dumps({"step": t, "data": {"actor/entropy": 1.0}}).encode() + b"\n" for t in (1, 2))
        )
    )
    path.with_name(name.replace(".jsonl.gz", ".run.json")).write_text(json.dumps({"format": 1, "line": "active"}))
    (run,) = read_runs([str(path.parent)])
    assert (run.name, run.last_step, run.about.line) == ("grpo", 2, "active")


@pytest.mark.parametrize("cut", [0, 5, 30, 60])
def test_a_packed_log_that_is_damaged_is_refused_by_name(tmp_path, cut):
    path = tmp_path / "a.jsonl.gz"
    record = json.dumps({"step": 1, "data": {"actor/entropy": 1.0}}).encode()
    path.write_bytes(gzip.compress(record)[:cut] + b"\xff" * (cut > 20))
    with pytest.raises(ReportError, match="a.jsonl.gz"):
        read_runs([str(path)])


def test_a_small_file_does_not_unpack_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("entropo_plugin.report.files.LARGEST_LOG", 1000)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 2000))
    with gzip.open(path) as file, pytest.raises(ReportError, match="no more are read"):
        list(lines(file))
