"""pass@k: whether what a policy gains at one try it loses at many."""

from __future__ import annotations

import numpy as np

from entropo_plugin.report.figure import Curve, Panel, Section, curve, lacking
from entropo_plugin.report.run import Run
from entropo_plugin.report.search import natural
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
HOW_VALIDATION = "Validation prompts: verl's best@k/mean (a bootstrap), mean@n for k = 1; dashed: first validation."
HOW_TRAINING = "Training prompts: the unbiased estimate from each step's groups, last tenth; dashed: first tenth."


def pass_section(runs: list[Run]) -> Section:
    """For each validation set its score, its pass@k over steps and over k; then pass@k on the training prompts."""
    have = [run for run in runs if run.training_pass or run.validation_passes]
    missing = lacking(runs, have, "pass@k", REMEDY)
    panels = []
    for name in sorted({name for run in runs for name in (*run.validation, *run.validation_passes)}, key=natural):
        scores = [curve(run, data, "line-dots") for run in runs if (data := run.validation.get(name))]
        panels.append(Panel(f"Score: {name}", "step", "mean score of a response", scores))
        panels += _panels({run: run.validation_passes.get(name, {}) for run in runs}, name)
    panels += _panels({run: run.training_pass for run in runs}, TRAINING)
    how = {HOW_VALIDATION: any(run.validation_passes for run in runs)}
    how |= {HOW_TRAINING: any(run.training_pass for run in runs)}
    remarks = [words for words, needed in how.items() if needed]
    return Section("pass", "What gets solved", LEAD, panels, missing, remarks)


def _panels(passes: dict[Run, dict[int, Series]], where: str) -> list[Panel]:
    """pass@k at the largest k over steps, and at the end over k."""
    solved = {run: data for run, data in passes.items() if data}
    style = "noisy" if where == TRAINING else "line-dots"
    steps = [curve(run, data[max(data)], style, f"pass@{max(data)}") for run, data in solved.items()]
    ks = [each for run, data in solved.items() for each in _over_k(run, data, where)]
    return [
        Panel(f"pass@k at the largest k: {where}", "step", "pass@k", steps),
        Panel(f"pass@k at the end: {where}", "k, responses per prompt", "pass@k", ks, log_x=True, zero=True),
    ]


def _over_k(run: Run, data: dict[int, Series], where: str) -> list[Curve]:
    """At the end, and dashed at the start; validations are few and not averaged."""
    ends = [(got.start, got.end) for got in map(summarise, data.values())]
    if where != TRAINING:
        ends = [(each.values[0], each.values[-1]) for each in data.values()]
    start, end = (Series(np.array(list(data)), np.array(side)) for side in zip(*ends, strict=True))
    first = [curve(run, start, "dashed", "at the start")] if any(len(each) > 1 for each in data.values()) else []
    return [*first, curve(run, end, "line-dots")]
