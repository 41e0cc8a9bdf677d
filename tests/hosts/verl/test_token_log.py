"""The most expensive tokens: where they are written, in what words, and that the file stays small and whole."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from entropo_plugin.config import parse
from entropo_plugin.demo.task import tokenizer
from entropo_plugin.hosts.verl.metrics import token_log as token_file
from entropo_plugin.hosts.verl.metrics.token_log import TokenFile, in_context, place, token_lines
from entropo_plugin.monitor import StepTokens
from entropo_plugin.report.runs import read_runs

ENTROPY = "entropo/entropy/token_mean"


def config(logger, folder="checkpoints"):
    trainer = dict(logger=logger, project_name="maths", experiment_name="grpo", default_local_dir=str(folder))
    return SimpleNamespace(trainer=SimpleNamespace(**trainer))


@pytest.mark.parametrize(
    ("logger", "folder", "variables", "expected"),
    [
        (["console", "file"], None, {}, "maths/grpo.tokens.jsonl"),
        ("file", None, {"VERL_FILE_LOGGER_ROOT": "logs"}, "logs/maths/grpo.tokens.jsonl"),
        (["file"], None, {"VERL_FILE_LOGGER_PATH": "runs/a/try-2.jsonl"}, "runs/a/try-2.tokens.jsonl"),
        (["tensorboard"], None, {}, "tensorboard_log/maths/grpo/tokens.jsonl"),
        (["tensorboard", "file"], None, {"TENSORBOARD_DIR": "tb"}, "maths/grpo.tokens.jsonl"),
        (["tensorboard"], None, {"TENSORBOARD_DIR": "tb"}, "tb/tokens.jsonl"),
        (["wandb"], None, {}, "checkpoints/tokens.jsonl"),
        (["file"], "elsewhere", {}, "elsewhere/tokens.jsonl"),
    ],
)
def test_the_file_lies_beside_the_log(logger, folder, variables, expected, monkeypatch):
    for name in ("VERL_FILE_LOGGER_ROOT", "VERL_FILE_LOGGER_PATH", "TENSORBOARD_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert place(config(logger), folder) == Path(expected)


def test_the_report_finds_it_where_verls_own_logger_writes(tmp_path, monkeypatch):
    from verl.utils.tracking import FileLogger

    monkeypatch.delenv("VERL_FILE_LOGGER_PATH", raising=False)
    monkeypatch.setenv("VERL_FILE_LOGGER_ROOT", str(tmp_path))
    logger = FileLogger("maths", "grpo")
    logger.log({ENTROPY: 1.0}, step=1)
    settings = parse({"monitor": {"tokens": 3}}).monitor
    token_file.token_file(config(["file"]), settings).write(1, token_lines(step(), 3, 1, tokenizer()))
    (run,) = read_runs([str(tmp_path / "maths" / "grpo.jsonl")])
    assert [(each.token, each.before, each.after) for each in run.tokens] == [("1", "7", "2<|im_end|>")]
    assert [each.name for each in read_runs([str(tmp_path / "maths")])] == ["maths"]


def test_nothing_is_written_unless_asked_for():
    assert token_file.token_file(config(["file"]), parse(None).monitor) is None


def step():
    """One response, "712" and its end; its second token has p = 1/e, H = 2, A = 1: a cost of 1/e."""
    ids = tokenizer()("712<|im_end|>")["input_ids"]
    zeros = torch.zeros(1, len(ids))
    logp, entropy = torch.tensor([[0.0, -1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0, 0.0]])
    return StepTokens(
        response_mask=torch.ones(1, len(ids)),
        old_log_probs=logp,
        responses=torch.tensor([ids]),
        response_length=torch.tensor([len(ids)]),
        uid=["p"],
        entropy=entropy,
        advantages=zeros + 1,
    )


def test_a_line_says_all_about_a_token():
    (line,) = token_lines(step(), 5, 7, tokenizer())
    found = json.loads(line)
    assert (found["step"], found["uid"], found["row"], found["position"]) == (7, "p", 0, 1)
    assert (found["token"], found["context_before"], found["context_after"]) == ("1", "7", "2<|im_end|>")
    assert found["token_id"] == tokenizer()("1")["input_ids"][0]
    assert found["cost"] == pytest.approx(0.36787944)
    assert (found["log_prob"], found["entropy"], found["advantage"]) == (-1.0, 2.0, 1.0)


class Spaced:
    """Words, as SentencePiece has them: the first word of a text loses the space before it."""

    def decode(self, ids, **_):
        return " ".join(f"w{each}" for each in ids)


def test_a_token_keeps_the_space_that_it_brings():
    assert in_context([1, 2, 3], 1, Spaced()) == ("w1", " w2", " w3")
    assert in_context([1, 2, 3], 0, Spaced()) == ("", "w1", " w2 w3")


class Joined:
    """A text that changes with what follows, as bytes of one character do."""

    def decode(self, ids, **_):
        return "é" if ids == [1, 2] else "".join("\ufffd" if each < 3 else chr(each) for each in ids)


def test_half_a_character_is_decoded_alone():
    assert in_context([1, 2, 65], 1, Joined()) == ("\ufffd", "\ufffd", "\ufffd")[:2] + ("A",)


def test_context_is_bounded():
    before, token, after = in_context(list(range(1000)), 500, Spaced())
    assert (before.split()[0], token, after.split()[-1]) == ("w436", " w500", "w564")


def lines(step, count, width=100):
    text = json.dumps({"step": step, "token": "x", "cost": 1.0}).encode()
    return [text[:-1] + b"," + b" " * (width - len(text) - 2) + b"}\n"[-2:] for _ in range(count)]


def steps(path):
    return [token_file.step_of(line) for line in path.read_bytes().splitlines(keepends=True)]


def test_the_oldest_steps_go_when_it_is_full(tmp_path):
    file = TokenFile(tmp_path / "tokens.jsonl", most=1000)
    for step in range(1, 30):
        file.write(step, lines(step, 2))
        assert file.path.stat().st_size <= 1000
    found = steps(file.path)
    assert found == sorted(found) and found[-2:] == [29, 29] and len(found) >= 4
    assert all(found.count(step) == 2 for step in found)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.jsonl"]


def test_a_step_larger_than_the_file_is_cut_to_its_costliest_tokens(tmp_path):
    file = TokenFile(tmp_path / "tokens.jsonl", most=1000)
    for step in (1, 2, 3):
        file.write(step, lines(step, 50))
        assert file.path.stat().st_size <= 1000 and steps(file.path)[-5:] == [step] * 5


def test_resuming_drops_what_never_came_to_count(tmp_path):
    path = tmp_path / "tokens.jsonl"
    first = TokenFile(path, most=10**6)
    for step in (1, 2, 3, 4):
        first.write(step, lines(step, 1))
    with path.open("ab") as file:
        file.write(b'{"step": 5, "token": "to')
    resumed = TokenFile(path, most=10**6)
    resumed.write(3, lines(3, 2))
    assert steps(path) == [1, 2, 3, 3]


def test_a_crash_while_dropping_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tokens.jsonl"
    TokenFile(path, most=1000).write(1, lines(1, 4))
    before = path.read_bytes()

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr(token_file.os, "replace", crash)
    TokenFile(path, most=1000).write(1, lines(1, 1))
    assert path.read_bytes() == before


def test_a_full_disk_ends_the_recording_and_not_the_training(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    file = TokenFile(tmp_path / "file" / "tokens.jsonl", most=1000)
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        file.write(1, lines(1, 1))
        file.write(2, lines(2, 1))
    assert len(caplog.records) == 1 and "no more tokens are recorded" in caplog.text


def test_the_trainer_writes_them_each_step(tmp_path, monkeypatch):
    from driver_step import driver, one_step, sampled

    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "metrics.jsonl"))
    trainer, queue = driver(sampled(2, 4, 8), "trainer.logger=[file]", "entropo.monitor.tokens=3")
    queue.install(monkeypatch)
    one_step(trainer), one_step(trainer)
    records = [json.loads(line) for line in (tmp_path / "metrics.tokens.jsonl").read_bytes().splitlines()]
    assert [record["step"] for record in records] == [1, 1, 1, 2, 2, 2]
    key = f"{records[3]['uid']}_"
    rows = [row for name, row in queue.rows.items() if name.startswith(key)]
    place = records[3]["position"]
    assert any(float(row["entropy"][place]) == records[3]["entropy"] for row in rows if len(row["entropy"]) > place)
