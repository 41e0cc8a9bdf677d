"""Which runs the demo makes; the trainings themselves are replaced."""

import pytest

from entropo_plugin.cli import build_parser
from entropo_plugin.demo import run
from entropo_plugin.demo.outcome import Outcome
from entropo_plugin.fields import ConfigError
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.hosts.verl.startup.plan import Plan


@pytest.fixture
def trained(monkeypatch):
    """The folders that would have been trained in, each in 100 seconds."""
    made = []

    def train(label, folder, overrides, options):
        made.append(folder.name)
        names = Outcome.__dataclass_fields__
        return Outcome(**(dict.fromkeys(names, 0.0) | {"name": label, "seconds": 100.0}))

    monkeypatch.setattr(run, "train_once", train)
    return made


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["grpo", "repo_r", "kl_loss"]),
        (["--seconds", "110"], ["grpo", "repo_r", "kl_loss"]),
        (["--seconds", "90"], ["grpo", "repo_r"]),
        (["--seconds", "-5", "--objective", "repo_d"], ["grpo", "repo_d"]),
    ],
)
def test_a_third_run_that_does_not_fit_is_left_out_aloud(arguments, expected, trained, tmp_path, capsys):
    import time

    options = build_parser().parse_args(["demo", *arguments])
    assert list(run._train_all(tmp_path, options, time.monotonic())) == trained == expected
    said = capsys.readouterr().out
    assert ("To see it: entropo demo --objective kl_loss" in said) == (arguments == ["--seconds", "90"])


def test_on_a_gpu_verl_takes_its_own_platform(tmp_path, monkeypatch):
    asked = ["demo", "--device", "cuda"]
    options = build_parser().parse_args(asked)
    options.start, options.steps = tmp_path / "model", 2
    config = compose("ppo_trainer", run._overrides(tmp_path / "run", options) + run.OBJECTIVES["repo_r"])
    assert (config.trainer.device, config.entropo.host) == ("cuda", "auto")
    assert config.ray_kwargs.ray_init.runtime_env.env_vars.ENTROPO_CPU == "0"
    assert [method.name for method in Plan.from_config(config).methods] == ["repo_r"]
    monkeypatch.setattr(run, "_has_gpu", lambda: False)
    with pytest.raises(ConfigError, match="--device=cuda: torch finds no GPU in this machine"):
        run._check(options)
    monkeypatch.setattr(run, "_has_gpu", lambda: True)
    run._check(options)
    with pytest.raises(ConfigError, match="--rollout=vllm: with --device=cuda the demo samples with transformers"):
        run._check(build_parser().parse_args([*asked, "--rollout", "vllm"]))
