"""A TRL run that is stopped and resumed is the unbroken run, bit for bit; another run's state is refused."""

import json
import logging

import pytest
import torch
from trl_runs import NEEDS, SETTINGS, config, data, logged, model, trained, trainer, weights

from entropo_plugin.fields import ConfigError
from entropo_plugin.hosts.state_file import NAME
from entropo_plugin.methods.registry import known

TWICE = {"num_iterations": 2, "max_steps": 8, "save_strategy": "steps", "save_steps": 4, "learning_rate": 3e-2}


def state_of(folder, step):
    return json.loads((folder / f"checkpoint-{step}" / NAME).read_text())


@pytest.mark.parametrize("name", sorted(known()))
def test_resumed_equals_unbroken_bit_for_bit(tmp_path, name):
    entropo = {"methods": [name]} | SETTINGS.get(name, {})
    changes = TWICE | NEEDS.get(name, {})
    whole = trained(tmp_path, entropo, **changes)
    state = state_of(tmp_path, 8)
    resumed = trained(tmp_path, entropo, resume=str(tmp_path / "checkpoint-4"), **changes)
    assert torch.equal(weights(whole), weights(resumed))
    assert state_of(tmp_path, 8) == state
    assert state["rollouts"] == 4
    coefficients = [f"entropo/{coefficient}" for coefficient in whole.entropo.loop.coefficients]
    for coefficient in [*coefficients, "entropo/dynamics/measured_change"]:
        assert logged(resumed, coefficient)[-1] == logged(whole, coefficient)[-1]


def test_a_checkpoint_in_the_middle_of_a_rollout_batch_resumes(tmp_path):
    """TRL samples anew there; the controller continues from what whole batches moved."""
    changes = TWICE | {"save_steps": 3, "max_steps": 6}
    trained(tmp_path, {"methods": ["repo_r"]}, **changes)
    assert state_of(tmp_path, 3)["rollouts"] == 2
    saved = state_of(tmp_path, 3)["coefficients"]["zeta"]["value"]
    resumed = trained(tmp_path, {"methods": ["repo_r"]}, resume=str(tmp_path / "checkpoint-3"), **changes)
    assert logged(resumed, "entropo/zeta")[-1] == pytest.approx(saved)


def test_another_runs_state_is_refused_unless_told_otherwise(tmp_path, caplog):
    trained(tmp_path, {"methods": ["repo_r"]}, **TWICE)
    checkpoint = str(tmp_path / "checkpoint-4")
    with pytest.raises(ConfigError, match=r"entropo.methods was \['repo_r'\], is \['repo_d'\].*entropo.resume=reset"):
        trained(tmp_path, {"methods": ["repo_d"]}, resume=checkpoint, **TWICE)
    trained(tmp_path, {"methods": ["repo_d"], "resume": "reset"}, resume=checkpoint, **TWICE)
    assert "controllers start over" in caplog.text


def test_a_checkpoint_of_stock_trl_starts_the_controller_anew(tmp_path, caplog):
    trained(tmp_path, {"methods": ["repo_r"]}, **TWICE)
    (tmp_path / "checkpoint-4" / NAME).unlink()
    trained(tmp_path, {"methods": ["repo_r"]}, resume=str(tmp_path / "checkpoint-4"), **TWICE)
    assert f"has no {NAME}; the controller starts from its first value" in caplog.text


@pytest.mark.parametrize("rollouts", [None, -1, "two", True, 1.5])
def test_a_count_edited_by_hand_is_refused_by_name(tmp_path, rollouts):
    run = trained(tmp_path, {"methods": ["repo_r"]}, **TWICE)
    path = tmp_path / "checkpoint-4" / NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rollouts": rollouts}))
    with pytest.raises(ConfigError, match="rollouts=.* is no count"):
        run._load_optimizer_and_scheduler(str(path.parent))


def test_a_full_disk_costs_the_state_and_not_the_training(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("entropo_plugin.hosts.state_file.write_state", _full)
    with caplog.at_level(logging.WARNING):
        trained(tmp_path, {"methods": ["repo_r"]}, **TWICE)
    assert "TRL's checkpoint goes on without it" in caplog.text
    assert (tmp_path / "checkpoint-8" / "model.safetensors").exists()


def _full(*unused):
    raise OSError(28, "No space left on device")


def test_the_law_of_validation_scores_is_fitted(tmp_path):
    args = config(tmp_path, eval_strategy="steps", eval_steps=1, max_steps=6, per_device_eval_batch_size=8)
    run = trainer(args, model=model(1), eval_dataset=data(2))
    fresh = run.entropo.law.state_dict()
    run.train()
    assert run.entropo.law.state_dict() != fresh
    assert all(logged(run, "eval_reward"))
