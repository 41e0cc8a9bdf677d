"""pass@k: whether what a policy gains at one try it loses at many."""

from __future__ import annotations

from entropo_plugin.report.figure import Curve, Panel, Section, curve
from entropo_plugin.report.runs import Run
from entropo_plugin.report.search import natural
from entropo_plugin.report.sections.metrics import lacking, training_pass, validation_of, validation_passes
from entropo_plugin.report.series import Series, summarise

LEAD = (
    "pass@k is the chance that at least one of k responses is right. When pass@1 rises and pass@k at large k does not, "
    "training sharpens what the policy could do already; when large k falls, diversity is being spent."
)
REMEDY = (
    "Log it with +entropo=monitor, or validate with several responses: actor_rollout_ref.rollout.val_kwargs.n=8 and "
    "actor_rollout_ref.rollout.val_kwargs.do_sample=true."
)
TRAINING = "training prompts"
HOW = {
    "validation": "Validation prompts: verl's best@k/mean (a bootstrap), mean@n for k = 1; dashed: first validation.",
    "training": "Training prompts: the unbiased estimate from each step's groups, last tenth; dashed: first tenth.",
}

Passes = list[tuple[int, str, dict[int, Series]]]


def pass_section(runs: list[Run]) -> Section:
    """For each validation set its score, its pass@k over steps and over k; then pass@k on the training prompts."""
    have = [run for run in runs if training_pass(run) or validation_passes(run)]
    section = Section("pass", "What gets solved", LEAD, missing=lacking(runs, have, "pass@k", REMEDY))
    sets = {name for run in runs for name in (*validation_of(run), *validation_passes(run))}
    for name in sorted(sets, key=natural):
        scores = [(place, run.name, data) for place, run in enumerate(runs) if (data := validation_of(run).get(name))]
        lines = [curve(label, data, place, "line-dots") for place, label, data in scores]
        section.panels.extend([Panel(f"Score: {name}", "step", "mean score of a response", lines)] if lines else [])
        solved = [(place, run.name, validation_passes(run).get(name, {})) for place, run in enumerate(runs)]
        section.panels.extend(_panels(solved, name))
    section.panels.extend(_panels([(place, run.name, training_pass(run)) for place, run in enumerate(runs)], TRAINING))
    section.remarks.extend([HOW["validation"]] if any(map(validation_passes, runs)) else [])
    section.remarks.extend([HOW["training"]] if any(map(training_pass, runs)) else [])
    return section


def _panels(passes: Passes, where: str) -> list[Panel]:
    """pass@k at the largest k over steps, and at the end over k."""
    steps, ks = [], []
    for place, name, data in passes:
        if not data:
            continue
        style = "noisy" if where == TRAINING else "line-dots"
        steps.append(curve(f"{name}: pass@{max(data)}", data[max(data)], place, style))
        ks += _over_k(place, name, data, where)
    if not ks:
        return []
    return [
        Panel(f"pass@k at the largest k: {where}", "step", "pass@k", steps),
        Panel(f"pass@k at the end: {where}", "k, responses per prompt", "pass@k", ks, log_x=True, zero=True),
    ]


def _over_k(place: int, name: str, data: dict[int, Series], where: str) -> list[Curve]:
    k = [float(each) for each in data]
    start = [each.values[0] if where != TRAINING else summarise(each).start for each in data.values()]
    end = [each.values[-1] if where != TRAINING else summarise(each).end for each in data.values()]
    lines = [Curve(name, k, list(map(float, end)), place, "line-dots")]
    if any(len(each) > 1 for each in data.values()):
        lines.insert(0, Curve(f"{name}: at the start", k, list(map(float, start)), place, "dashed"))
    return lines
