import logging
import os

import pytest
from harness import configuration
from omegaconf import OmegaConf
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.checkpoint import NAME, read_state, resume_warnings, resumed_folder, write_state
from entropo_plugin.hosts.verl.startup import guard


def test_round_trip(tmp_path):
    state = {"zeta": 0.1 + 0.2, "target": {"initial": 1 / 3}}
    write_state(tmp_path / "global_step_2", state)
    assert read_state(tmp_path / "global_step_2") == state
    assert sorted(os.listdir(tmp_path / "global_step_2")) == [NAME]


def test_a_crash_while_writing_leaves_the_old_state(tmp_path, monkeypatch):
    write_state(tmp_path, {"zeta": 1.0})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError):
        write_state(tmp_path, {"zeta": 2.0})
    assert read_state(tmp_path) == {"zeta": 1.0}


def test_no_state_is_none_and_garbage_is_refused_by_path(tmp_path):
    assert read_state(tmp_path) is None
    (tmp_path / NAME).write_text('{"zeta": 0.')
    with pytest.raises(ConfigError, match=f"{NAME} is not readable as JSON"):
        read_state(tmp_path)
    (tmp_path / NAME).write_text("[1]")
    with pytest.raises(ConfigError, match="holds a list, not an object"):
        read_state(tmp_path)


def test_nothing_that_json_cannot_hold_is_written(tmp_path):
    with pytest.raises(ValueError):
        write_state(tmp_path, {"zeta": float("nan")})
    assert read_state(tmp_path) is None


def trainer(folder, **keys):
    node = {"default_local_dir": folder, "resume_mode": "auto", "resume_from_path": None, "save_freq": 1} | keys
    return OmegaConf.create({"trainer": node})


def checkpoint(folder, step, *files):
    made = folder / f"global_step_{step}"
    made.mkdir()
    for name in files:
        (made / name).touch()
    return str(made)


def mark(folder, text):
    (folder / "latest_checkpointed_iteration.txt").write_text(text)


def test_resumes_from_where_verl_resumes(tmp_path):
    config = trainer(str(tmp_path))
    assert resumed_folder(trainer(str(tmp_path), resume_mode="disable")) is None
    assert resumed_folder(config) is None and resume_warnings(config) == []
    four = checkpoint(tmp_path, 4)
    for text in ("4", " 4\n", "5"):
        mark(tmp_path, text)
        assert resumed_folder(config) == find_latest_ckpt_path(str(tmp_path)) == (four if "4" in text else None)
    chosen = checkpoint(tmp_path, 2)
    config = trainer(str(tmp_path), resume_mode="resume_path", resume_from_path=chosen)
    assert resumed_folder(config) == chosen and resume_warnings(config) == []


def test_a_whole_checkpoint_is_not_spoken_of(tmp_path):
    checkpoint(tmp_path, 4, "data.pt")
    mark(tmp_path, "4")
    assert resume_warnings(trainer(str(tmp_path))) == []


def test_a_marker_to_a_deleted_folder_is_said(tmp_path):
    three = checkpoint(tmp_path, 3, "data.pt")
    checkpoint(tmp_path, 11)  # the newest, but not whole
    mark(tmp_path, "12")
    (said,) = resume_warnings(trainer(str(tmp_path)))
    assert "latest_checkpointed_iteration.txt names global_step_12, which is not there: verl begins at step 0" in said
    assert f"trainer.resume_mode=resume_path trainer.resume_from_path={three};" in said
    assert resume_warnings(trainer(str(tmp_path), resume_mode="disable")) == []


def test_a_checkpoint_without_a_marker_is_said(tmp_path):
    three = checkpoint(tmp_path, 3, "data.pt")
    (said,) = resume_warnings(trainer(str(tmp_path)))
    assert "latest_checkpointed_iteration.txt is missing" in said and f"resume_from_path={three};" in said


@pytest.mark.parametrize(
    ("strategy", "save_freq", "said"),
    [("fsdp", 1, True), ("fsdp2", 10, True), ("megatron", 1, False), ("fsdp", -1, False), ("fsdp", "5", False)],
)
def test_a_save_that_verl_does_not_mark_is_said(tmp_path, strategy, save_freq, said):
    config = trainer(str(tmp_path), save_freq=save_freq)
    config.actor_rollout_ref = {"actor": {"strategy": strategy, "checkpoint": {"async_save": True}}}
    found = resume_warnings(config)
    assert bool(found) == said
    if said:
        assert f"async_save=true: with actor_rollout_ref.actor.strategy={strategy} verl writes no" in found[0]


def test_a_path_to_nothing_is_said(tmp_path):
    path = str(tmp_path / "global_step_7")
    config = trainer(str(tmp_path), resume_mode="resume_path", resume_from_path=path)
    (said,) = resume_warnings(config)
    assert said.startswith(f"trainer.resume_from_path={path} is no folder on this machine")


@pytest.mark.parametrize(
    "path", [None, 7, "", "/somewhere", "/a/global_step_", "/a/global_step_3/", "/\0/global_step_3"]
)
def test_a_path_that_verl_cannot_use_is_refused(path):
    config = trainer("checkpoints", resume_mode="resume_path", resume_from_path=path)
    for ask in (resumed_folder, resume_warnings):
        with pytest.raises(ConfigError, match="trainer.resume_from_path=.* which ends in global_step_N"):
            ask(config)


@pytest.mark.parametrize("folder", [None, 20261125, "a\0b"])
def test_a_checkpoint_folder_that_is_no_path_is_refused(folder):
    with pytest.raises(ConfigError, match="trainer.default_local_dir=.* needs a path"):
        resumed_folder(trainer(folder))
    assert resumed_folder(trainer(folder, resume_mode="disable")) is None


@pytest.mark.parametrize("kind", ["words", "fifo", "large"])
def test_a_marker_that_holds_no_step_is_refused(tmp_path, kind):
    if kind == "fifo":
        os.mkfifo(tmp_path / "latest_checkpointed_iteration.txt")
    else:
        mark(tmp_path, "four" if kind == "words" else "4" * 2000)
    with pytest.raises(ConfigError, match="latest_checkpointed_iteration.txt holds no step"):
        resumed_folder(trainer(str(tmp_path)))


def test_it_is_said_at_start_up_on_the_driver(tmp_path, caplog):
    checkpoint(tmp_path, 3, "data.pt")
    config = configuration(
        "+entropo=repo_r",
        trainer__default_local_dir=str(tmp_path),
        trainer__save_freq=2,
        actor_rollout_ref__actor__checkpoint__async_save=True,
    )
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        guard.check_start(config)
    assert "verl begins at step 0" in caplog.text and "async_save=true" in caplog.text
