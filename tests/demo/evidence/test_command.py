"""``python -m entropo_plugin.demo.evidence``: which runs it asks for, and how it ends."""

import sys

import pytest

from entropo_plugin.demo.evidence import __main__ as command
from entropo_plugin.demo.evidence import runner, tasks
from entropo_plugin.demo.evidence.arms import ARMS, STUDIES


@pytest.fixture
def asked(monkeypatch):
    """Runs the command; gives its exit status and what it would have run. ``failed`` is how many runs fail."""

    def run(*words, failed=0):
        seen = []

        def run_all(plan, out, workers):
            seen.extend(plan)
            if failed is None:
                raise KeyboardInterrupt
            return failed

        monkeypatch.setattr(runner, "run_all", run_all)
        monkeypatch.setattr(sys, "argv", ["evidence", *words])
        return command.main(), seen

    return run


def test_without_arguments_every_arm_runs_on_every_task_with_the_five_reported_seeds(asked):
    status, plan = asked()
    assert status == 0
    assert len(plan) == len(tasks.NAMES) * len(ARMS) * 5
    assert {each.job.seed for each in plan} == {0, 1, 2, 3, 4}


def test_no_choice_was_made_on_a_reported_seed():
    assert not {*command.TUNED_ON} & {*command.REPORTED}


def test_arms_rates_and_seeds_are_combined(asked):
    words = ["--tasks", "sums", "--arms", "grpo", "KL loss 0.1", "--rates", "0.333", "3", "--seeds", "7", "8", "9"]
    _, plan = asked(*words, "--rollouts", "5")
    found = {(each.task, each.job.arm, each.job.rate, each.job.seed, each.job.rollouts) for each in plan}
    assert len(plan) == len(found) == 2 * 2 * 3
    assert ("sums", "KL loss 0.1", 3.0, 9, 5) in found


def test_a_study_brings_its_own_arms(asked):
    _, plan = asked("--tasks", "sums", "--study", "precision", "--seeds", "0")
    assert [each.job.arm for each in plan] == [*STUDIES["precision"]] == ["grpo fp32", "grpo bf16"]


def test_runs_that_failed_are_said_and_end_in_1(asked, capsys):
    status, _ = asked("--tasks", "sums", failed=2)
    assert status == 1 and "2 runs failed: see the column error of" in capsys.readouterr().out


def test_an_interrupt_says_how_to_go_on_and_ends_in_130(asked, capsys):
    status, _ = asked("--tasks", "sums", failed=None)
    assert status == 130 and "goes on where it stopped" in capsys.readouterr().out


def test_an_arm_that_does_not_exist_is_refused_before_anything_runs(asked, capsys):
    with pytest.raises(SystemExit, match="2"):
        asked("--arms", "grop")
    assert "grop" in capsys.readouterr().err
