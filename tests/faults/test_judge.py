import importlib.util
from pathlib import Path

import pytest

from entropo_plugin.control import doubling

spec = importlib.util.spec_from_file_location("faults_judge", Path(__file__).with_name("judge.py"))
judge = importlib.util.module_from_spec(spec)
spec.loader.exec_module(judge)

MEASURED = [1.5, 1.45, 1.52, 1.4, 1.3, 1.2, 1.6]


def line(step, zeta, following):
    names = {"entropo/zeta": zeta, "entropo/zeta_next": following, "entropo/target": 1.5}
    return {"step": step, "data": names | {judge.ENTROPY: MEASURED[step - 1]}}


def trajectory(saved, logged):
    """A run killed after ``logged`` lines, its state of step ``saved``, and a resume to step 7, all exact."""
    lines, zeta, state = [], judge.INITIAL, None
    for step, entropy in enumerate(MEASURED, 1):
        following = doubling(zeta, entropy, 1.5, judge.LOW, judge.HIGH)
        lines.append(line(step, zeta, following))
        zeta = following
        if step == saved:
            about = {"value": zeta, "steps": saved}
            last = {"entropy": entropy, "step": step, "predicted": None}
            state = {"step": saved, "coefficients": {"zeta": about}, "changes": {"last": last}}
    return lines[:logged], lines[saved:], state


@pytest.mark.parametrize(("saved", "logged"), [(4, 4), (4, 3), (4, 5), (1, 2)])
def test_an_exact_resume_has_no_faults(saved, logged):
    assert judge.faults(*trajectory(saved, logged), steps=7) == []


def test_kills_in_a_row_count_each_step_once():
    """Killed in step 3 after its save and before its log, again in step 6, judged at step 7."""
    first, second, state = trajectory(3, 2)
    again = trajectory(5, 5)[2]
    lines = judge.counted([], first, state)
    assert [each["step"] for each in lines] == [1, 2, 3] and lines[2]["data"] == {judge.ENTROPY: MEASURED[2]}
    attempt = second[:3]
    assert judge.faults(lines, attempt, state, steps=6) == []
    lines = judge.counted(lines, attempt, again)
    assert [each["step"] for each in lines] == [1, 2, 3, 4, 5]
    assert judge.faults(lines, second[2:], again, steps=7) == []
    again["coefficients"]["zeta"]["steps"] = 6
    assert judge.faults(lines, second[2:], again, steps=7)[0].startswith("the controller counted 6 steps")


def test_each_fault_is_said():
    first, second, state = trajectory(4, 4)
    assert judge.faults(first, second[1:], state, 7)[0] == "the resumed steps are not each there once"
    state["coefficients"]["zeta"]["steps"] = 5
    assert judge.faults(first, second, state, 7) == ["the controller counted 5 steps, the checkpoint is of step 4"]
    first, second, state = trajectory(4, 4)
    state["coefficients"]["zeta"]["value"] = 0.5
    assert "the state of step 4 holds 0.5" in judge.faults(first, second, state, 7)[0]
    first, second, state = trajectory(4, 4)
    second[0]["data"]["entropo/zeta"] *= 2
    assert judge.faults(first, second, state, 7) == ["step 5: entropo/zeta is off"]
    first, second, state = trajectory(4, 2)
    assert judge.faults(first, second, state, 7) == ["entropies are known of the steps [1, 2, 4, 5, 6, 7] only"]


def test_moments_lie_where_the_timings_put_them():
    timing = {"gen": 2.0, "old_log_prob": 0.5, "adv": 0.25, "update_actor": 1.0, "save_checkpoint": 0.5}
    windows = [judge.window(timing, moment) for moment in ("rollout", "update", "save")]
    assert windows == [(0, 2.0), (2.75, 3.75), (3.75, 4.25)]


def test_the_table_is_markdown():
    assert judge.table([{"a": 1, "b": True}], ("a", "b")) == "| a | b |\n|---|---|\n| 1 | True |"
