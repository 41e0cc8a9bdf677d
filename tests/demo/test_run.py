"""Which runs the demo makes; the trainings themselves are replaced."""

import pytest

from entropo_plugin.cli import build_parser
from entropo_plugin.demo import run
from entropo_plugin.demo.outcome import Outcome


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
