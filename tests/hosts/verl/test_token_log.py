"""The most expensive tokens: where they are written, in what words, and that the file stays small and whole."""

import json
import logging
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.demo.task import tokenizer
from entropo_plugin.hosts.verl.metrics import token_log as token_file
from entropo_plugin.hosts.verl.metrics.token_log import TokenFile, in_context, place, token_lines
from entropo_plugin.monitor import StepTokens
from entropo_plugin.report.runs import read_runs

ENTROPY = "entropo/entropy/token_mean"


def config(logger, folder="checkpoints", project="maths", experiment="grpo"):
    trainer = dict(logger=logger, project_name=project, experiment_name=experiment, default_local_dir=folder)
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
    assert [each.name for each in read_runs([str(tmp_path / "maths")])] == ["grpo"]


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
    assert in_context([1, 2, 65], 1, Joined()) == ("\ufffd", "\ufffd", "A")


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

    monkeypatch.setattr(os, "replace", crash)
    TokenFile(path, most=1000).write(1, lines(1, 1))
    assert path.read_bytes() == before


def test_a_full_disk_ends_the_recording_and_not_the_training(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    file = TokenFile(tmp_path / "file" / "tokens.jsonl", most=1000)
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        file.write(1, lines(1, 1))
        file.write(2, lines(2, 1))
    assert len(caplog.records) == 1 and "no more tokens are recorded" in caplog.text


def ended(path, caplog, reason):
    """The recording ends with one warning that names the file; the training goes on."""
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        file = TokenFile(path, most=1000)
        file.write(1, lines(1, 1))
        file.write(2, lines(2, 1))
    (record,) = caplog.records
    assert f"{path} cannot be written" in record.message and reason in record.message


FOREIGN = [
    b"my notes\n",
    b"my notes, without an end of line",
    b'{"token": "a", "id": 3}\n',
    b'{"step": 1, "loss": 2.5}\n',
    b'{"step":1,"data":{"actor/entropy":0.7}}\n',
    lines(1, 1)[0] + b"a line of somebody else\n" + lines(2, 1)[0],
    b"\0" * 100,
    b"[" * (2 << 20),
]


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_file_is_left_alone(tmp_path, caplog, content):
    path = tmp_path / "tokens.jsonl"
    path.write_bytes(content)
    ended(path, caplog, "was not written by entropo_plugin")
    assert path.read_bytes() == content and os.listdir(tmp_path) == ["tokens.jsonl"]


@pytest.mark.parametrize("content", [b"", b'{"st', b'{"step": 5, "token": "to', lines(1, 1)[0] + b"\0" * 100])
def test_what_a_crash_has_left_of_ours_is_not_foreign(tmp_path, content):
    path = tmp_path / "tokens.jsonl"
    path.write_bytes(content)
    TokenFile(path, most=1000).write(2, lines(2, 1))
    assert steps(path) == [1, 2][content.count(b"\n") == 0 :]


def test_a_fifo_does_not_hang(tmp_path, caplog):
    os.mkfifo(tmp_path / "tokens.jsonl")
    ended(tmp_path / "tokens.jsonl", caplog, "not a regular file")


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "tokens.jsonl").symlink_to(tmp_path / "disk" / "tokens.jsonl")
    file = TokenFile(tmp_path / "tokens.jsonl", most=1000)
    for step in range(1, 30):
        file.write(step, lines(step, 2))
    assert file.path.is_symlink() and steps(tmp_path / "disk" / "tokens.jsonl")[-1] == 29
    assert os.listdir(tmp_path / "disk") == ["tokens.jsonl"]


def test_a_short_write_leaves_no_half_line_and_ends_the_recording(tmp_path, caplog):
    """The limit lies within the second step's lines: the system writes a part, and says so only when asked again."""
    file = TokenFile(tmp_path / "tokens.jsonl", most=10**6)
    file.write(1, lines(1, 10))
    before = file.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 150, hard))
    try:
        with caplog.at_level(logging.WARNING, "entropo_plugin"):
            file.write(2, lines(2, 10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.path.read_bytes() == before and "File too large" in caplog.text


def refused(settings, reason, **verl):
    node = parse({"monitor": {"tokens": 3, **settings}}).monitor
    with pytest.raises(ConfigError, match="entropo.monitor.folder=.*Set entropo.monitor.folder to a folder") as refusal:
        token_file.check_token_file(config(verl.pop("logger", ["wandb"]), **verl), node)
    assert reason in str(refusal.value)


def test_a_folder_that_cannot_be_used_is_refused_at_start_up(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    refused({"folder": "~nouser/tokens"}, "there is no home folder ~nouser")
    refused({"folder": "a\0b"}, "zero byte")
    refused({"folder": "\ud800"}, "cannot hold these characters")
    refused({"folder": str(tmp_path / "file")}, "file is not a folder")
    refused({"folder": str(tmp_path / "file" / "below")}, "Not a directory")
    refused({"folder": str(tmp_path / "loop")}, "symbolic links")
    refused({"folder": f"/nothing/{'x' * 300}"}, "too long a name")
    refused({"folder": "/".join(["x" * 200] * 30)}, "File name too long")
    refused({"folder": "~nouser", "tokens": 0}, "there is no home folder ~nouser")
    # whoever is root may write there, says the system
    for folder, above in (("/proc", "/proc"), ("/proc/entropo", "/proc"), ("/sys/a/b", "/sys")):
        refused({"folder": folder}, f"{above} cannot be written to")


def test_the_check_leaves_nothing_behind(tmp_path):
    token_file.check_token_file(config(["wandb"]), parse({"monitor": {"tokens": 3, "folder": str(tmp_path)}}).monitor)
    assert os.listdir(tmp_path) == []


def test_a_place_that_is_taken_is_refused_at_start_up(tmp_path, monkeypatch):
    (tmp_path / "tokens.jsonl").write_text("my notes")
    refused({"folder": str(tmp_path)}, "was not written by entropo_plugin, and is left alone")
    (tmp_path / "tokens.jsonl").unlink()
    os.mkfifo(tmp_path / "tokens.jsonl")
    refused({"folder": str(tmp_path)}, "not a regular file")
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "log" / "tokens.jsonl"))
    refused({"folder": str(tmp_path / "log")}, "is verl's own log", logger=["file"])
    refused({}, "trainer.default_local_dir is null", folder=None)


@pytest.mark.parametrize("folder", ["~", "~/a", "relative", "a b\u00e9\n", "", "$HOME", "."])
def test_what_passes_the_check_works(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = parse({"monitor": {"tokens": 3, "folder": folder}}).monitor
    token_file.check_token_file(config(["wandb"]), settings)
    file = token_file.token_file(config(["wandb"]), settings)
    file.write(1, lines(1, 1))
    assert steps(file.path) == [1] and file.path.resolve().is_relative_to(tmp_path)
    token_file.check_token_file(config(["wandb"]), settings)  # a resumed run finds its own


@pytest.mark.parametrize("name", [20261125, None, True, 0.5, "", "/tmp/elsewhere", "a/b"])
@pytest.mark.parametrize("logger", ["file", "tensorboard"])
def test_a_name_is_taken_as_verl_takes_it(tmp_path, monkeypatch, name, logger):
    """verl's own loggers are the judges of where a run's log lies."""
    from verl.utils import tracking

    for variable in ("VERL_FILE_LOGGER_ROOT", "VERL_FILE_LOGGER_PATH", "TENSORBOARD_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr(tracking, "open", lambda path, *rest, **more: opened.append(path), raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=opened.append))
    monkeypatch.setattr(os, "makedirs", lambda *_, **__: None)
    kind = tracking.FileLogger if logger == "file" else tracking._TensorboardAdapter
    kind("maths", name)
    found = place(config([logger], experiment=name), None)
    log = Path(opened[0])
    assert found == (log.with_name(f"{log.stem}.tokens.jsonl") if logger == "file" else log / "tokens.jsonl")


@pytest.mark.parametrize("logger", [None, [], "wandb", ("console",)])
def test_other_loggers_mean_the_checkpoints_folder_whatever_its_type(logger):
    assert place(config(logger, folder=20261125, project=1, experiment=2), None) == Path("20261125/tokens.jsonl")


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
