"""``entropo doctor``: what it asks, what it composes and what it says, mostly by the real command."""

import os
import subprocess
import sys

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from entropo_plugin import cli
from entropo_plugin.fields import ConfigError
from entropo_plugin.hosts.verl.startup import doctor
from entropo_plugin.hosts.verl.startup.composition import compose, compose_command
from entropo_plugin.hosts.verl.startup.finding import whole
from entropo_plugin.hosts.verl.startup.redaction import redact
from entropo_plugin.recipe_files import misplaced

MINE = """
defaults:
  - ppo_trainer
  - experiment: small
  - _self_
algorithm:
  adv_estimator: grpo
actor_rollout_ref:
  actor:
    use_dynamic_bsz: true
"""
LARGE = "# @package _global_\ndata:\n  train_batch_size: 512\n"


def run(words, folder, **variables):
    """One command in a new process; returns its status and what it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ENTROPO", "VERL_", "HYDRA_"))} | variables
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, env=environment, cwd=folder, timeout=3600
    )
    return done.returncode, done.stdout + done.stderr


def entropo_doctor(folder, *arguments, **variables):
    return run(["entropo_plugin.cli", "doctor", "--no-ray", *arguments], folder, **variables)


@pytest.fixture
def users(tmp_path):
    """A folder with a primary config of the user's and two choices of a group of theirs."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "mine.yaml").write_text(MINE)
    (tmp_path / "conf" / "experiment" / "small.yaml").write_text(LARGE.replace("512", "64"))
    (tmp_path / "conf" / "experiment" / "large.yaml").write_text(LARGE)
    return tmp_path


def test_what_verl_does_not_load_is_not_there(tmp_path):
    status, said = entropo_doctor(tmp_path, VERL_USE_EXTERNAL_PLUGINS="none")
    assert status == 1
    assert "PROBLEM  a process that imports verl: VERL_USE_EXTERNAL_PLUGINS=none: verl loads no plugin" in said
    assert "estimators missing: negative_reinforce, quantile_baseline, repo_d" in said and " registered: " not in said


def test_a_broken_plugin_is_said_at_warning_and_named(tmp_path):
    """A module of the plugin that raises, put in its place before verl imports it."""
    broken = "import sys; sys.modules['entropo_plugin.hosts.verl.startup.registration'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(broken)
    status, said = entropo_doctor(tmp_path, PYTHONPATH=str(tmp_path))
    assert status == 1
    assert "the plugin cannot be imported: ModuleNotFoundError: import of entropo_plugin.hosts" in said
    assert "WARNING:" in said and "entropo_plugin could not be loaded" in said and "entropo doctor" in said


def test_it_composes_what_the_entry_point_composes(users, monkeypatch):
    arguments = ["--config-dir", "conf", "-cn", "mine", "experiment=large", "+entropo=repo_r", "~trainer.logger"]
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--cfg", "job", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=users, timeout=3600)
    assert done.returncode == 0, done.stderr
    theirs = OmegaConf.create(done.stdout[done.stdout.index("model_engine:") :])
    monkeypatch.chdir(users)
    [(name, ours)] = compose_command(arguments)
    assert name == "mine" and ours == theirs
    assert ours.data.train_batch_size == 512 and "logger" not in ours.trainer


def test_every_way_to_name_a_primary_config(users, monkeypatch):
    monkeypatch.chdir(users)
    path = ["hydra.searchpath=[pkg://verl.trainer.config]"]
    for flags in (
        ["--config-path", str(users / "conf"), "--config-name", "mine", *path],
        ["-cd", "conf", "-cn", "mine"],
    ):
        [(_, config)] = compose_command(flags)
        assert config.data.train_batch_size == 64 and config.algorithm.adv_estimator == "grpo"
    assert compose("mine", ["experiment=large"], "conf").data.train_batch_size == 512
    [(_, config)] = compose_command(["--config-path", "config", "+a=${hydra:runtime.cwd}"])
    assert config.a == str(users)
    jobs = compose_command(["-m", "data.seed=1,2"])
    assert [(name, job.data.seed) for name, job in jobs] == [
        ("ppo_trainer data.seed=1", 1),
        ("ppo_trainer data.seed=2", 2),
    ]
    with pytest.raises(ConfigError, match="--config-dir nowhere: there is no such folder"):
        compose_command(["--config-dir", "nowhere"])
    with pytest.raises(ConfigError, match="Hydra does not understand this command line: argument --config-name"):
        compose_command(["--config-name"])


def test_a_whole_command_may_be_pasted_and_harmless_lines_are_no_failure(users):
    command = ["python", "-m", "verl.trainer.main_ppo", "-cd", "conf", "-cn", "mine", "+entropo=clip_cov"]
    status, said = entropo_doctor(users, *command)
    assert status == 0 and "All is well." in said, said
    assert "ok       recipe mine: valid: estimator grpo, trainer entropo_sync" in said


@pytest.fixture
def here(monkeypatch):
    """The command in this process, without the fresh one and its seconds."""
    monkeypatch.setattr(doctor, "fresh_process", lambda: iter(()))
    return lambda *arguments: cli.main(["doctor", "--no-ray", *arguments])


def test_the_whole_cause_and_our_findings_beside_it(here, capsys):
    overrides = ["actor_rollout_ref.actor.use_dynamic_bsz=true", "+entropo=clip_cov", "entropo.clip_cov.high=1e9"]
    assert here(*overrides) == 1
    said = capsys.readouterr().out
    assert "PROBLEM  recipe ppo_trainer: ConfigError: entropo.clip_cov.high=1000000000.0: out of range" in said
    assert "InstantiationException: Error in call to target 'verl.workers.config.model.HFModelConfig'" in said
    assert "Repo id must be in the form" in said and "deepseek-llm-7b-chat" in said


def test_two_choices_of_our_group_are_answered_with_their_composition(here, capsys):
    for words, advice in (
        (["+entropo=adapo", "+entropo=repo_r"], "name both in one choice: +entropo=repo_r_adapo"),
        (["+entropo=stare", "+entropo=adapo"], "name both in one choice: +entropo=[stare,adapo]"),
        (["+recipes=7b/qwen2_5_repo_r", "+entropo=adapo"], "write entropo=adapo, without +, in its place"),
    ):
        assert here(*words) == 1
        assert advice in capsys.readouterr().out
    for words in (["+entropo=[adapo,repo_rr]"], ["+entropo=[adapo,repo_r]", "+trainer.nothing.at.all"]):
        assert here(*words) == 1
        assert "one choice" not in capsys.readouterr().out


def test_a_whole_recipe_in_the_wrong_place(here, capsys):
    name = "7b/qwen2_5_repo_r"
    for words, advice in (
        (["--config-name", name], f"Write +recipes={name} in its place"),
        ([f"--config-name=recipes/{name}"], f"Write +recipes={name} in its place"),
        (["-cn", f"{name}.yaml", "+entropo=adapo"], f"Write +recipes={name} in its place"),
        ([f"+recipes=[{name},7b/qwen2_5_clip_cov]"], "each is a whole run"),
        ([f"+recipes={name}", "+recipes=7b/qwen2_5_clip_cov"], "each is a whole run"),
    ):
        assert here(*words) == 1
        assert advice in capsys.readouterr().out
    assert misplaced(["--config-name", "ppo_trainer", f"+recipes={name}"]) == ""
    assert misplaced(["--config-name", "7b/of_the_user"]) == ""


def test_verls_own_start_answers_a_recipe_as_its_configuration(tmp_path):
    status, said = run(["verl.trainer.main_ppo", "--config-name", "7b/qwen2_5_repo_r"], tmp_path)
    assert status == 1
    assert "Write +recipes=7b/qwen2_5_repo_r in its place" in said
    assert "Traceback" not in said


def test_verls_own_start_answers_two_choices_too(tmp_path):
    status, said = run(["verl.trainer.main_ppo", "+entropo=repo_r", "+entropo=adapo"], tmp_path)
    assert status == 1
    assert "Hydra takes one choice of a group; name both in one choice: +entropo=repo_r_adapo" in said
    assert "Traceback" not in said


def test_no_secret_is_printed(here, capsys, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hunter2hunter2")
    monkeypatch.setenv("LONG_TOKEN", "x1y2" * 60)
    assert here("+entropo=repo_r", "entropo.repo.base=${oc.env:MY_TOKEN}") == 1
    assert here("+entropo=repo_r", "entropo.target.kind=${oc.env:LONG_TOKEN}") == 1
    assert here("+entropo=repo_r", "trainer.resume_mode=${oc.env:MY_TOKEN}") == 1
    said = "".join(capsys.readouterr())
    assert "hunter2" not in said and "x1y2" not in said
    assert "entropo.repo.base='${oc.env:MY_TOKEN}': not allowed" in said


def test_redaction_replaces_whole_and_shortened_values_only(monkeypatch):
    monkeypatch.setenv("TOKEN", "abcdefgh")
    monkeypatch.setenv("SHORT", "1")
    config = OmegaConf.create({"a": "${oc.env:TOKEN}", "b": ["${oc.env:SHORT,0}"]})
    assert redact("a='abcdefgh' 1 abcd...", config) == "a='${oc.env:TOKEN}' 1 ${oc.env:TOKEN}..."
    assert redact("a=abcdefgh", OmegaConf.create({"a": 1})) == "a=abcdefgh"


def test_every_cause_once():
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer, because of 'inner'") from error
    except ValueError as error:
        assert whole(error) == "ValueError: outer, because of 'inner'"
    chain = RuntimeError("outer:\n  more")
    chain.__cause__ = OSError("inner")
    assert whole(chain) == "RuntimeError: outer: more <- OSError: inner"


def test_hydras_own_error_stays_one(users):
    with pytest.raises(ConfigCompositionException):
        compose("ppo_trainer", ["+entropo=no_such_method"])


def test_the_entry_point_refuses_in_one_message(tmp_path):
    dynamic = "actor_rollout_ref.actor.use_dynamic_bsz=true"
    wrong = ["+entropo=repo_r", "entropo.repo.base=${oc.env:MY_TOKEN}"]
    status, said = run(["verl.trainer.main_ppo", dynamic, *wrong], tmp_path, MY_TOKEN="hunter2hunter2")
    assert status == 1 and "Traceback" not in said
    assert (
        "\nentropo: entropo.repo.base='${oc.env:MY_TOKEN}': not allowed. Set entropo.repo.base to one of rloo" in said
    )
    assert "hunter2" not in said
