"""What the findings say: gravest first, over all values, and without contradicting each other."""

import numpy as np
import pytest

from entropo_plugin.report.findings import findings
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.comparison import comparison_section
from entropo_plugin.report.sections.law import law_section
from entropo_plugin.report.series import split

ENTROPY, TARGET = "entropo/entropy/token_mean", "entropo/target"


def run(name="a", **metrics):
    both = {key: split(range(1, len(values) + 1), values) for key, values in metrics.items()}
    finite = {key: data for key, (data, _) in both.items() if len(data)}
    return Run(name, finite, {key: broken for key, (_, broken) in both.items() if len(broken)})


def said(*runs):
    return [(each.mood, each.headline) for each in findings(list(runs))]


def nan_from(step, length=100, value=1.0):
    return [value] * (step - 1) + [np.nan] * (length - step + 1)


def test_a_metric_that_turns_nan_is_the_gravest_finding():
    (first, *others) = findings([run(**{"actor/entropy": nan_from(10), "critic/score/mean": [0.5] * 100})])
    assert (first.mood, first.headline) == ("bad", "Not finite")
    assert first.sentence == (
        "a: actor/entropy is not finite from step 10 on. Find the cause before you believe anything else."
    )
    assert not [each for each in others if "held" in each.headline]


def test_it_stands_before_every_other_bad_finding_of_any_run():
    fell = run("b", **{ENTROPY: np.linspace(2.0, 0.1, 100)})
    broken = run(
        "c", **{"actor/grad_norm": nan_from(20), "actor/ppo_kl": nan_from(20), "actor/pg_clipfrac": nan_from(30)}
    )
    assert said(fell, broken) == [("bad", "Not finite"), ("bad", "Entropy collapsed")]
    assert findings([fell, broken])[0].sentence.startswith(
        "c: actor/grad_norm, actor/ppo_kl are not finite from step 20 on, and 1 more metric later. Find"
    )


def test_our_entropy_says_nothing_while_verls_is_nan():
    nan = run(**{ENTROPY: [1.0] * 9, "actor/entropy": nan_from(10), TARGET: [1.0] * 9})
    assert said(nan) == [("bad", "Not finite")]


def test_entropy_that_is_no_longer_logged_is_said():
    found = findings([run(**{ENTROPY: [1.0] * 9, "critic/score/mean": [0.5] * 100})])
    assert [each.headline for each in found] == ["Entropy not logged to the end", "Entropy held"]
    assert found[0].sentence == "a: no entropy after step 9, and the run went on to 100."


def test_no_figure_and_no_law_speaks_of_an_end_that_is_not_finite():
    entropy = np.linspace(0.2, 1.2, 10)
    broken = run(**{ENTROPY: [*entropy, np.nan], "critic/score/mean": [*(0.9 - 0.2 * np.exp(entropy)), 0.5]})
    (table,) = comparison_section([broken]).tables
    assert table.rows[0][:4] == ["entropy (nats per token), a", "0.2", "not finite", "\u2013"]
    assert "not finite at the end" in law_section([broken]).remarks[0]
    assert law_section([broken]).tables[0].rows[0][1:6] == ["0.2", "0.9", "1", "\u2013", "\u2013"]


ANSWERS, COUNTS = "entropo/entropy/right_answers", "entropo/diversity/right_responses"


def test_held_entropy_with_lost_diversity_of_right_answers_is_bad():
    lost = {ENTROPY: [1.2] * 20, ANSWERS: np.linspace(0.96, 0.36, 20), COUNTS: [12.0] * 20}
    assert said(run(**lost)) == [("bad", "Entropy held, diversity fell"), ("fact", "Entropy held")]
    assert findings([run(**lost)])[0].sentence == (
        "a: entropy held (1.2 to 1.2 nats per token), diversity of right answers fell 60%: their own entropy went from "
        "0.944 to 0.376."
    )
    fell = run(**(lost | {ENTROPY: np.linspace(1.2, 0.6, 20)}))
    assert said(fell) == [("note", each) for each in ("Entropy fell", "Floor ahead", "Right answers are fewer")]
    assert said(run(**(lost | {ANSWERS: [0.96] * 20}))) == [("fact", "Entropy held")]
    assert said(run(**(lost | {COUNTS: [4.0] * 20}))) == [("fact", "Entropy held")]


def test_numbers_that_recover_are_a_note():
    (found,) = findings([run(**{"actor/grad_norm": [1.0, np.nan, np.nan, 1.0], "critic/score/mean": [1.0] * 4})])
    assert (found.mood, found.headline) == ("note", "Gaps in the numbers")
    assert found.sentence == "a: actor/grad_norm is not finite at 2 steps, first at step 2."
    assert said(run(**{"val-aux/m/acc/std@8": [np.nan] * 3})) == [("note", "Gaps in the numbers")]


def test_the_whole_command_says_it(log, capsys, tmp_path):
    from entropo_plugin.report import main

    steps = {t: {"actor/entropy": 1.0 if t < 10 else None, "critic/score/mean": 0.1} for t in range(1, 101)}
    assert main([str(log("a.jsonl", steps)), "--out", str(tmp_path / "r.html")]) == 0
    html = (tmp_path / "r.html").read_text()
    assert '<b class="mood">Not finite</b> reward 0.1 \u2192 0.1; 100 steps.' in html
    assert html.split("<b>")[1].startswith("Not finite</b>\n<p>a: actor/entropy is not finite from step 10 on.")
    assert main([str(log("b.jsonl", {1: {"actor/entropy": None}})), "--out", str(tmp_path / "r.html")]) == 0
    assert "b: actor/entropy is not finite from step 1 on." in (tmp_path / "r.html").read_text()


def test_a_score_that_turned_nan_is_not_compared():
    whole, broken = run("x", **{"critic/score/mean": [0.5] * 20}), run("y", **{"critic/score/mean": nan_from(10, 20)})
    assert said(whole, broken) == [("bad", "Not finite")]


BOUND = {"entropo/zeta": [0.05] * 10, "entropo/zeta_at_bound": [0.0, 1.0] * 5}


@pytest.mark.parametrize(
    ("entropy", "target", "mood"),
    [([1.0] * 10, [1.0] * 10, "note"), ([0.5] * 10, [1.0] * 10, "bad"), ([0.5] * 10, None, "note")],
    ids=["on target", "off target", "no target"],
)
def test_a_bound_is_bad_only_where_the_target_is_missed(entropy, target, mood):
    metrics = {ENTROPY: entropy} | BOUND | ({TARGET: target} if target else {})
    (found,) = (each for each in findings([run(**metrics)]) if "bound" in each.headline)
    assert found.mood == mood
    assert ("entropo.target" in found.sentence) == (mood == "bad")


def test_entropy_that_held_is_neither_good_nor_bad():
    assert said(run(**{ENTROPY: [1.0] * 20})) == [("fact", "Entropy held")]
    assert said(run(**{ENTROPY: [1.0] * 20, TARGET: [2.0] * 20})) == [("bad", "Off target"), ("fact", "Entropy held")]


def test_entropy_that_went_where_its_target_led_did_not_collapse():
    falling = np.linspace(2.0, 0.2, 20)
    assert said(run(**{ENTROPY: falling, TARGET: falling})) == [("fact", "Entropy fell"), ("good", "On target")]
    assert said(run(**{ENTROPY: falling, TARGET: [2.0] * 20})) == [("bad", "Entropy collapsed"), ("bad", "Off target")]


def test_a_run_whose_coefficient_never_moves_steers_to_no_target():
    still = {"entropo/ratio": [2e-4] * 20, "entropo/ratio_next": [2e-4] * 20, "entropo/ratio_at_bound": [0.0] * 20}
    assert said(run(**{ENTROPY: [1.0] * 20, TARGET: [2.0] * 20}, **still)) == [("fact", "Entropy held")]


def test_a_target_of_zero_that_is_missed_is_off_target():
    (found,) = (
        each for each in findings([run(**{ENTROPY: [0.5] * 10, TARGET: [0.0] * 10})]) if "target" in each.headline
    )
    assert found.sentence == "a: ends at 0.5 nats, target 0; within 15% of it in 0% of the steps."


def passes(where, one, many):
    names = {"training": ("entropo/pass_at/1", "entropo/pass_at/8")}
    names["validation"] = ("val-core/m/acc/mean@8", "val-core/m/acc/best@8/mean")
    return dict(zip(names[where], (one, many), strict=True))


UP, DOWN = np.linspace(0.2, 0.6, 10), np.linspace(0.9, 0.7, 10)


def test_training_prompts_alone_never_say_that_more_gets_solved():
    assert said(run(**passes("training", UP, UP + 0.3))) == []
    assert said(run(**passes("validation", UP, UP + 0.3))) == [("good", "More gets solved")]


def test_validation_is_believed_before_training():
    both = passes("training", np.tile(UP, 10), np.tile(UP + 0.3, 10)) | passes("validation", UP, DOWN)
    assert said(run(**both)) == [("bad", "Diversity spent")]


def test_no_law_holds_whose_ceiling_lies_below_a_score_that_was_reached():
    entropy = np.linspace(0.05, 1.2, 20)
    score = 0.9 - 0.2 * np.exp(entropy)
    score[0] += 0.06
    section = law_section([run(**{ENTROPY: entropy, "critic/score/mean": score})])
    assert section.remarks == [
        "a, training scores: Don't trust this fit: its ceiling 0.709 is below 0.75, a score that was seen."
    ]
    assert section.tables[0].rows[0].count("\u2013") == 2
    assert section.panels[0].curves[1].label == "a: fit, not to be trusted"
