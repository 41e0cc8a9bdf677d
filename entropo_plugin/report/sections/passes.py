"""pass@k: whether what a policy gains at one try it loses at many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from entropo_plugin.report.downsample import curve, noisy
from entropo_plugin.report.figure import Curve, Panel, Section
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.metrics import lacking, training_pass, validation_pass
from entropo_plugin.report.series import Series, summarise

LEAD = (
    "pass@k is the chance that at least one of k responses is right. When pass@1 rises and pass@k at large k does not, "
    "training sharpens what the policy could do already; when large k falls, diversity is being spent."
)
REMEDY = (
    "Log it with +entropo=monitor, or validate with several responses: actor_rollout_ref.rollout.val_kwargs.n=8 and "
    "actor_rollout_ref.rollout.val_kwargs.do_sample=true."
)

Passes = Callable[[Run], dict[int, Series]]


def pass_section(runs: list[Run]) -> Section:
    """pass@k over k at the end, and over steps for the largest k, on validation and on training prompts."""
    have = [run for run in runs if any(source(run) for source in SOURCES.values())]
    section = Section("pass", "pass@k", LEAD, missing=lacking(runs, have, "pass@k", REMEDY))
    for where, source in SOURCES.items():
        if any(source(run) for run in runs):
            section.panels.append(_over_k(runs, source, where))
            section.panels.extend(_over_steps(runs, source, where))
            section.remarks.append(HOW[where])
    if len(section.panels) % 2:  # the last one has no neighbour
        section.panels[-1] = replace(section.panels[-1], half=False)
    return section


SOURCES: dict[str, Passes] = {"validation": validation_pass, "training": training_pass}
HOW = {
    "validation": "Validation prompts: verl's best@k/mean (a bootstrap), mean@n for k = 1; dashed: first validation.",
    "training": "Training prompts: the unbiased estimate from each step's groups, last tenth; dashed: first tenth.",
}


def _over_k(runs: list[Run], source: Passes, where: str) -> Panel:
    curves: list[Curve] = []
    for colour, run in enumerate(runs):
        found = source(run)
        if not found:
            continue
        k = [float(each) for each in found]
        start, end = _ends(found, where)
        if any(len(data) > 1 for data in found.values()):
            curves.append(Curve(f"{run.name}: at the start", k, start, colour, "dashed", listed=False))
        curves.append(Curve(run.name, k, end, colour, "line-dots"))
    title = f"pass@k at the end, {where} prompts"
    return Panel(title, "k, responses per prompt", "pass@k", curves, log_x=True, zero=True, half=True)


def _ends(found: dict[int, Series], where: str) -> tuple[list[float], list[float]]:
    if where == "validation":
        return [float(each.values[0]) for each in found.values()], [float(each.values[-1]) for each in found.values()]
    sums = [summarise(each) for each in found.values()]
    return [each.start for each in sums], [each.end for each in sums]


def _over_steps(runs: list[Run], source: Passes, where: str) -> list[Panel]:
    curves: list[Curve] = []
    for colour, run in enumerate(runs):
        found = source(run)
        if found and len(found[max(found)]) > 1:
            label, data = f"{run.name}: pass@{max(found)}", found[max(found)]
            curves += noisy(label, data, colour) if where == "training" else [curve(label, data, colour, "line-dots")]
    if not curves:
        return []
    return [Panel(f"pass@k at the largest k, {where} prompts", "step", "pass@k", curves, zero=True, half=True)]
