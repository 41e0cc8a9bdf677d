import os

import pytest
from omegaconf import OmegaConf

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.checkpoint import NAME, read_state, resumed_folder, write_state


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


def test_resumes_from_where_verl_resumes(tmp_path):
    def trainer(**keys):
        return OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path), "resume_from_path": None} | keys})

    assert resumed_folder(trainer(resume_mode="disable")) is None
    assert resumed_folder(trainer(resume_mode="auto")) is None
    (tmp_path / "global_step_4").mkdir()
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    assert resumed_folder(trainer(resume_mode="auto")) == str(tmp_path / "global_step_4")
    chosen = str(tmp_path / "global_step_2")
    assert resumed_folder(trainer(resume_mode="resume_path", resume_from_path=chosen)) == chosen
