"""Training reward and validation score."""

from __future__ import annotations

from entropo_plugin.report.downsample import curve, noisy
from entropo_plugin.report.figure import Curve, Panel, Section
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.metrics import SCORES, lacking, score_of, validation_of

LEAD = "What the policy earns: on the prompts that it trains on, and on the validation set wherever verl ran it."


def reward_section(runs: list[Run]) -> Section:
    """Mean score of each step, and the validation scores."""
    have = [run for run in runs if score_of(run) is not None]
    panels = [_training(runs)] if have else []
    checks = _validations(runs)
    if any(len(each.x) > 1 for each in checks):
        panels.append(Panel("Validation score", "step", "mean score of a response", checks, zero=True))
    missing = lacking(runs, have, " and no ".join(SCORES), "verl logs it at every training step.")
    return Section("reward", "Reward", LEAD, panels, missing, _single(checks))


def _training(runs: list[Run]) -> Panel:
    curves: list[Curve] = []
    for colour, run in enumerate(runs):
        data = score_of(run)
        if data is not None:
            curves += noisy(run.name, data, colour)
    return Panel("Training reward", "step", "mean score of a response", curves, zero=True)


def _validations(runs: list[Run]) -> list[Curve]:
    found = []
    for colour, run in enumerate(runs):
        sources = validation_of(run)
        for source, data in sources.items():
            label = run.name if len(sources) == 1 else f"{run.name}: {source}"
            found.append(curve(label, data, colour, "line-dots"))
    return found


def _single(checks: list[Curve]) -> list[str]:
    once = [f"{each.label} {each.y[0]:.3f} at step {each.x[0]:.0f}" for each in checks if len(each.x) == 1]
    return [f"Validated once: {'; '.join(once)}."] if once else []
