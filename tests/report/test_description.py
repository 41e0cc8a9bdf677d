"""A run's own description beside its log, and what the report draws from it."""

import json
import os

import pytest

from entropo_plugin.report import main
from entropo_plugin.report.description import Coefficient, read_description
from entropo_plugin.report.files import ReportError
from entropo_plugin.report.findings import findings
from entropo_plugin.report.page import build, render
from entropo_plugin.report.runs import read_runs
from entropo_plugin.report.sections.coefficients import coefficient_section
from entropo_plugin.report.sections.comparison import measures
from entropo_plugin.side_file import RUN, TOKENS, beside

ENTROPY = "entropo/entropy/token_mean"
LINE = "entropo: MINE on grpo advantages; target 1.0 x the initial entropy; weight by additive within [0.1, 0.4]"
MINE = {"label": "MINE's weight", "low": 0.1, "high": 0.4, "key": "entropo.mine.weight.high", "method": "MINE"}


def described(path, line=LINE, **coefs):
    """Writes the side file of a log."""
    record = {
        "format": 1,
        "line": line,
        "coefficients": {name.replace("__", "/"): what for name, what in coefs.items()},
    }
    beside(path, RUN).write_text(json.dumps(record))
    return path


@pytest.fixture
def mine(log):
    """Ten steps of a stranger's method, whose coefficient ``mine/weight`` goes to its bound and misses its target."""

    def write(name="mine.jsonl", **more):
        steps = {}
        for t in range(1, 11):
            steps[t] = {ENTROPY: 0.5, "entropo/target": 1.0, "entropo/mine/weight": min(0.1 * t, 0.4)}
            steps[t] |= {"entropo/mine/weight_at_bound": float(t >= 3), **more}
        return log(name, steps)

    return write


def one(path):
    (run,) = read_runs([str(path)])
    return run


def test_it_lies_beside_the_log_under_the_logs_name(tmp_path):
    assert beside(tmp_path / "try-2.jsonl", RUN) == tmp_path / "try-2.run.json"
    assert beside(tmp_path / "try-2.jsonl", TOKENS) == tmp_path / "try-2.tokens.jsonl"
    assert beside(tmp_path, RUN) == tmp_path / "run.json"
    assert beside(tmp_path / "events.out.tfevents.1.host.1.0", RUN) == tmp_path / "run.json"


def test_what_a_run_says_is_read(mine):
    run = one(described(mine(), mine__weight=MINE))
    assert run.about.line == LINE
    what = Coefficient("MINE's weight", 0.1, 0.4, "entropo.mine.weight.high", "MINE")
    assert run.coefficients == {"mine/weight": what}
    assert run.notes == []


def test_a_strangers_coefficient_gets_a_panel_with_its_label_bounds_and_key(mine):
    panel = coefficient_section([one(described(mine(), mine__weight=MINE))]).panels[0]
    assert panel.title == "MINE's weight (0.1 to 0.4, entropo.mine.weight.high)"
    assert panel.y_label == "mine/weight"
    assert [(curve.label, curve.style) for curve in panel.curves] == [
        ("mine", "step"),
        ("mine: upper bound", "dashed"),
        ("mine: lower bound", "dashed"),
        ("mine: at its bound", "dots"),
    ]
    assert (list(panel.curves[1].x), list(panel.curves[1].y)) == ([1, 10], [0.4, 0.4])


def test_a_strangers_coefficient_gets_a_bound_finding_with_its_key(mine):
    (found,) = (each for each in findings([one(described(mine(), mine__weight=MINE))]) if "bound" in each.headline)
    assert found.sentence == (
        "mine: MINE's weight stood at its bound (0.1 to 0.4) in 80% of the steps and could not go further. Widen "
        "entropo.mine.weight.high, or choose a target nearer to the entropy that training leaves (entropo.target)."
    )


def test_without_a_description_the_metrics_name_is_the_label(mine):
    run = one(mine(**{"entropo/entropy_coeff": 0.01, "entropo/entropy_coeff_next": 0.01}))
    assert [panel.title for panel in coefficient_section([run]).panels] == [
        "entropy_coeff",
        "mine/weight",
    ]
    (found,) = (each for each in findings([run]) if "bound" in each.headline)
    assert found.sentence.startswith("mine: mine/weight stood at its bound in 80% of the steps and could not go")
    assert {"mine/weight", "entropy_coeff"} <= set(measures(run))


def test_a_description_alone_makes_a_metric_a_coefficient(log):
    path = log("a.jsonl", {t: {ENTROPY: 1.0, "entropo/beta": 0.5, "entropo/shift": 0.1} for t in (1, 2)})
    assert one(path).coefficients == {}
    run = one(described(path, beta={"label": "weight of the penalty"}))
    assert run.coefficients == {"beta": Coefficient("weight of the penalty")}
    assert "weight of the penalty (beta)" in measures(run)


def test_the_target_is_no_coefficient(log):
    run = one(log("a.jsonl", {1: {ENTROPY: 1.0, "entropo/target": 1.0, "entropo/target_next": 0.9}}))
    assert run.coefficients == {}


def test_bounds_far_away_or_crossed_by_the_values_are_not_drawn(log):
    path = log("a.jsonl", {t: {ENTROPY: 1.0, "entropo/z": 0.01 * (-1) ** t} for t in range(4)})
    panel = coefficient_section([one(described(path, z={"label": "z", "low": 0.001, "high": 5}))]).panels[0]
    assert [curve.label for curve in panel.curves] == ["a"]
    assert panel.title == "z (0.001 to 5)"


def test_runs_that_call_one_metric_differently_share_a_panel(log):
    paths = [log(f"{name}.jsonl", {1: {ENTROPY: 1.0, "entropo/beta": 0.5}}) for name in "ab"]
    described(paths[0], beta={"label": "first"}), described(paths[1], beta={"label": "second", "high": 1})
    (panel,) = coefficient_section(read_runs(list(map(str, paths)))).panels
    assert (panel.title, panel.y_label) == ("first / second", "beta")


def test_the_start_up_line_stands_on_the_page(mine):
    runs = [one(described(mine(), line="<b>on</b>\u202e grpo", mine__weight=MINE))]
    assert "<b>mine</b> &lt;b&gt;on&lt;/b&gt;\ufffd grpo</p>" in render(runs, build(runs))


def test_the_last_attempts_description_stands(mine, log):
    described(mine("run/try-1.jsonl"), line="first", mine__weight=MINE)
    described(log("run/try-2.jsonl", {8: {ENTROPY: 1.0}}), line="second")
    run = one(beside(mine("run/try-1.jsonl"), RUN).parent)
    assert run.about.line == "second"
    assert "The attempts were not started alike; the start-up line is that of the last one." in run.notes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is damaged: no JSON"),
        ('{"format": 1, "li', "is damaged: no JSON"),
        ("[" * 100_000, "is damaged: no JSON"),
        ("[1]", "is of format None; this version reads format 1"),
        ('{"format": 2}', "is of format 2; this version reads format 1"),
        (" " * 1_000_001, "has 1 MB: at most 1 MB are read"),
    ],
)
def test_a_description_that_cannot_be_read_is_a_note(mine, tmp_path, content, said, capsys):
    path = mine()
    beside(path, RUN).write_text(content)
    assert main([str(path), "--out", str(tmp_path / "r.html")]) == 0
    assert f"Not read: {tmp_path}/mine.run.json {said}" in capsys.readouterr().err


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a pipe"), (os.mkdir, "a folder")])
def test_a_description_that_is_no_file_is_a_note(mine, make, kind):
    path = mine()
    make(beside(path, RUN))
    assert one(path).notes == [f"Not read: {beside(path, RUN)} is {kind}: only regular files are read."]


def test_entries_of_the_wrong_type_count_as_not_said(tmp_path):
    path = tmp_path / "run.json"
    entries = {
        "a": 7,
        "b": {"label": 3, "low": "x", "high": True, "key": None},
        "c": {"low": 1e300, "high": float("nan")},
    }
    path.write_text(json.dumps({"format": 1, "line": ["x"], "coefficients": entries}))
    about = read_description(path)
    assert about.line == ""
    assert about.coefficients == {"a": Coefficient("a"), "b": Coefficient("b"), "c": Coefficient("c")}
    path.write_text('{"format": 1, "coefficients": [1]}')
    assert read_description(path).coefficients == {}


def test_a_missing_description_is_no_error_of_a_run(mine, tmp_path):
    assert one(mine()).about.line == ""
    with pytest.raises(ReportError, match="is a folder"):
        read_description(tmp_path)


def test_bounds_that_move_with_the_run_are_not_named():
    assert Coefficient("beta", 0.0, 0.0, "entropo.setting").bounds == ""
    assert Coefficient("z", 0.001, 0.05).bounds == "0.001 to 0.05"
