import numpy as np
import pytest

from entropo_plugin.report.findings import findings
from entropo_plugin.report.runs import Run, read_runs
from entropo_plugin.report.sections import SECTIONS
from entropo_plugin.report.sections.accounting import account, accounting_section
from entropo_plugin.report.sections.coefficients import coefficient_section
from entropo_plugin.report.sections.comparison import measures
from entropo_plugin.report.sections.cost import cost_section, split
from entropo_plugin.report.sections.law import law_section, pairs_of
from entropo_plugin.report.sections.overview import overview_section
from entropo_plugin.report.sections.passes import pass_section
from entropo_plugin.report.sections.tokens import excerpts, shown
from entropo_plugin.report.series import blocked, series
from entropo_plugin.report.tokens import CostlyToken

ENTROPY = "entropo/entropy/token_mean"


def run(name="a", **metrics):
    return Run(
        name, {key.replace("__", "/"): series(range(1, len(values) + 1), values) for key, values in metrics.items()}
    )


def heads(runs):
    return {(each.mood, each.headline) for each in findings(runs)}


def test_verls_entropy_stands_in_and_says_so():
    section = overview_section([run(actor__entropy=[1.0, 0.5])])
    assert list(section.panels[0].curves[0].y) == [1.0, 0.5]
    assert "loss_agg_mode" in section.remarks[0]


def test_target_is_dashed_and_each_coefficient_has_its_panel():
    given = run(
        **{ENTROPY: [1.0, 0.5], "entropo/target": [1.0, 1.0], "entropo/x": [0.28, 0.3], "entropo/x_next": [0.3]}
    )
    curves = overview_section([given]).panels[0].curves
    assert [(curve.label, curve.style) for curve in curves] == [("a", "noisy"), ("a: target", "dashed")]
    (panel,) = coefficient_section([given]).panels
    assert (panel.title, panel.curves[0].style) == ("x", "step")


def test_dots_mark_the_coefficients_that_stand_at_their_bound():
    flags = {ENTROPY: [1.0] * 4, "entropo/zeta": [0.1, 0.2, 0.3, 0.3], "entropo/zeta_at_bound": [0.0, 1.0, 1.0, 0.0]}
    dots = coefficient_section([run(**flags)]).panels[0].curves[1]
    assert (dots.style, list(dots.x), list(dots.y)) == ("dots", [3.0, 4.0], [0.3, 0.3])


def test_every_section_says_what_is_missing():
    empty = run(**{"response_length/mean": [1.0]})
    missing = {make([empty]).key: make([empty]).missing for make in SECTIONS}
    assert all(text and text[0].startswith("a has no ") for key, text in missing.items() if key != "comparison")


def test_law_recovers_exact_coefficients():
    entropy = np.linspace(0.2, 1.2, 10)
    section = law_section([run(**{ENTROPY: entropy, "critic/score/mean": 0.9 - 0.2 * np.exp(entropy)})])
    assert section.tables[0].rows[0][1:5] == ["0.2", "0.9", "1", "0.7"]
    assert "The law holds" in section.remarks[0]


def test_law_forecasts_nothing_for_a_controlled_run_or_a_poor_fit():
    entropy = np.linspace(0.2, 1.2, 10)
    score = 0.9 - 0.2 * np.exp(entropy)
    moved = {"entropo/zeta": entropy, "entropo/zeta_next": entropy}
    for steered in (moved, {"entropo/target": entropy}):
        section = law_section([run(**{ENTROPY: entropy, "critic/score/mean": score}, **steered)])
        assert "forecasts nothing" in section.remarks[0]
        assert section.tables[0].rows[0][1:6] == ["0.2", "0.9", "1", "\u2013", "\u2013"]
        assert section.panels[0].curves[1].x[0] == pytest.approx(0.2)
    poor = law_section([run(**{ENTROPY: entropy, "critic/score/mean": [0.1, 0.9] * 5})])
    assert "Don't trust this fit" in poor.remarks[0]
    assert poor.panels[0].curves[1].x[0] == pytest.approx(0.2)  # drawn over the data alone, not down to H = 0


def test_law_prefers_validations_and_averages_noisy_steps():
    (first, _), what = pairs_of(run(**{ENTROPY: np.arange(80.0), "critic/score/mean": np.arange(80.0)}))
    assert (len(first), first[0], what) == (40, 0.5, "training scores, means over 2 steps")
    both = run(**{ENTROPY: np.arange(6.0), "critic/score/mean": np.arange(6.0), "val-core/m/acc/mean@8": np.ones(6)})
    assert pairs_of(both)[1] == "validation scores"
    assert blocked(np.array([1.0, 3.0, 5.0]), 2).tolist() == [2.0, 5.0]


def test_accounting_pairs_a_prediction_with_the_next_change():
    found = account(run(**{ENTROPY: [1.0, 0.9, 0.7, 0.7], "entropo/dynamics/predicted": [-1.0, -2.0, 0.0, 5.0]}))
    assert found.steps.tolist() == [2, 3, 4]
    assert found.predicted.tolist() == [-1.0, -2.0, 0.0]
    assert found.rate == pytest.approx(0.1)
    assert found.correlation == pytest.approx(1.0)
    assert accounting_section([run(**{ENTROPY: [1.0, 0.9]})]).panels == []


def test_accounting_fits_nothing_to_predictions_of_the_wrong_sign():
    section = accounting_section([run(**{ENTROPY: [1.0, 0.9, 0.7], "entropo/dynamics/predicted": [1.0, 2.0, 0.0]})])
    assert [curve.label for curve in section.panels[0].curves] == ["a: measured"]
    assert "do not follow the predictions" in section.remarks[0]


def test_pass_at_k_from_both_names_and_from_verls_validation():
    for style in ("entropo/pass_at/{}", "entropo/pass@{}"):
        panel = pass_section([run(**{style.format(1): [0.2, 0.4], style.format(8): [0.5, 0.6]})]).panels[1]
        assert (list(panel.curves[1].x), list(panel.curves[1].y)) == ([1.0, 8.0], [0.4, 0.6])
    checked = {"val-core/m/acc/mean@8": [0.3], "val-aux/m/acc/best@2/mean": [0.4], "val-core/m/acc/best@8/mean": [0.7]}
    panel = pass_section([run(**checked)]).panels[2]
    assert (list(panel.curves[0].x), list(panel.curves[0].y)) == ([1.0, 2.0, 8.0], [0.3, 0.4, 0.7])


SETS = {f"val-core/{name}/acc/{kind}": [0.5, 0.6] for name in ("set10", "set2") for kind in ("mean@8", "best@8/mean")}


def test_several_validation_sets_are_named_and_have_panels_of_their_own():
    titles = [panel.title for panel in pass_section([run(**SETS)]).panels]
    expected = ("Score: {}", "pass@k at the largest k: {}", "pass@k at the end: {}")
    assert titles == [title.format(name) for name in ("set2/acc", "set10/acc") for title in expected]
    assert overview_section([run(**SETS)]).panels[0].title == "Held-out pass@k: set2/acc (and 1 more below)"


def test_another_variable_of_a_validation_set_is_no_set():
    other = {"val-aux/set2/reward/best@8/mean": [0.5, 0.6]}
    assert list(run(**SETS, **other).validation_passes) == ["set2/acc", "set10/acc"]


def test_the_overview_shows_the_largest_k_and_one_try():
    curves = overview_section([run(**SETS)]).panels[0].curves
    assert [(curve.label, curve.style) for curve in curves] == [("a: pass@8", "line-dots"), ("a: pass@1", "dashed")]
    assert overview_section([run(**{"entropo/pass_at/1": [0.1]})]).panels[0].title == "pass@k on training prompts"
    score = {"val-core/m/acc/mean@1": [0.3]}
    assert overview_section([run(**score)]).panels[0].title == "Held-out score: m/acc"


def test_cost_splits_the_groups_without_gradient():
    metrics = {"entropo/diversity/equal_share": [0.5, 0.25], "entropo/diversity/group_size": [8.0, 8.0]}
    given = run(**metrics, **{"entropo/pass_at/8": [0.75, 1.0]})
    assert split(given) == (0.375, 0.25, 0.125)  # all wrong: .25 and 0; all right: .25 and .25
    assert split(run(**metrics)) == (0.375, None, None)
    assert split(run(actor__entropy=[1.0])) == (None, None, None)


def test_cost_adds_up_tokens_and_hours():
    given = run(
        perf__total_num_tokens=[600.0, 400.0], timing_s__step=[3600.0, 1800.0], entropo__monitor__seconds=[54.0, 0.0]
    )
    assert cost_section([given]).tables[0].rows == [["a", *["\u2013"] * 3, "1\u202f000", "1.5", "1.00%"]]
    assert run(num_tokens=[5.0, 9.0]).clock("tokens").values.tolist() == [5.0, 9.0]
    assert given.clock("hours").steps.tolist() == [0, 1, 2]  # a validation before the first step has its place
    assert given.clock("hours").values.tolist() == [0.0, 1.0, 1.5]
    assert run(actor__entropy=[1.0]).clock("hours") is None


def test_comparison_names_units_and_largest_k(full):
    (given,) = read_runs([str(full("r/metrics.jsonl"))])
    assert {"entropy (nats per token)", "training reward", "training pass@8", "zeta"} <= set(measures(given))


def test_findings_about_entropy():
    assert heads([run(**{ENTROPY: np.linspace(2.0, 0.1, 20)})]) == {("bad", "Entropy collapsed")}
    assert heads([run(**{ENTROPY: np.linspace(1.0, 5.0, 20)})]) == {("bad", "Entropy exploded")}
    assert heads([run(**{ENTROPY: [1.0] * 20})]) == {("fact", "Entropy held")}
    (first,) = findings([run(**{ENTROPY: [2.0] * 10 + [1.0] * 10})])
    assert first.sentence == "a: 2 to 1 nats per token (\u221250%) in 20 steps."


def test_findings_about_the_controller():
    steady = {ENTROPY: [1.0] * 10, "entropo/target": [1.0] * 10}
    assert ("good", "On target") in heads([run(**steady)])
    assert ("bad", "Off target") in heads([run(**(steady | {"entropo/target": [2.0] * 10}))])
    swings = {ENTROPY: [0.5, 1.5] * 10, "entropo/target": [1.0] * 20}
    assert ("note", "Swings around its target") in heads([run(**swings)])


def test_findings_about_numbers_diversity_and_comparison():
    broken = run(**{"entropo/tokens/nonfinite_share": [0.0, 0.01]})
    assert "from step 2 on, at up to 1.00%" in findings([broken])[0].sentence
    spent = run(**{"entropo/pass_at/1": np.linspace(0.2, 0.6, 10), "entropo/pass_at/8": np.linspace(0.9, 0.7, 10)})
    assert heads([spent]) == {("bad", "Diversity spent")}
    two = [run("x", **{"critic/score/mean": [0.5] * 20}), run("y", **{"critic/score/mean": [0.7] * 10})]
    sentences = {each.headline: each.sentence for each in findings(two)}
    assert sentences["Reward"].startswith("At step 10: y 0.7, x 0.5.")
    assert sentences["Different lengths"] == "Last steps: x 20, y 10. Compare at step 10 or before."


def token(position, text, before, after, cost=1.0, uid="u"):
    return CostlyToken(1, uid, position, text, before, after, cost)


def test_tokens_of_one_response_are_marked_in_one_text():
    tokens = [
        token(7, " b", "x a mid", " end", 3.0),
        token(3, " a", "x", " mid b end"),
        token(0, "z", "", "y", uid="v"),
    ]
    first, second = excerpts(tokens)
    assert first == ["x", tokens[1], " mid", tokens[0], " end"]
    assert second == ["", tokens[2], "y"]


def test_a_token_whose_context_does_not_meet_the_other_is_left_out_of_its_text():
    near, far = token(3, "a", "x", " mid"), token(90, "b", "elsewhere", " end")
    assert excerpts([near, far]) == [["x", near, " mid"]]


def test_white_space_tokens_are_shown():
    assert (shown(" so"), shown("\n\n"), shown(" "), shown("")) == (" so", "\u21b5\u21b5", "\u2423", "\u2205")
