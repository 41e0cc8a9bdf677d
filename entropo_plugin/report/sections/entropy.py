"""Entropy against its target, and what the controller did about it."""

from __future__ import annotations

import numpy as np

from entropo_plugin.report.downsample import curve, noisy
from entropo_plugin.report.figure import Curve, Panel, Section
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.metrics import COEFFICIENTS, ENTROPY, TARGET, VERL_ENTROPY, entropy_of, lacking
from entropo_plugin.report.series import Series, thin

LEAD = (
    "Entropy is how much choice the policy keeps at each token. Where it reaches 0 exploration is over; where it grows "
    "without end the policy turns to noise. Dashed: the target that a controller steers to."
)
REMEDY = "Log it with +entropo=monitor, or with verl's actor.calculate_entropy=true."


def entropy_section(runs: list[Run]) -> Section:
    """Entropy and target of all runs, and one panel for each coefficient that is moved."""
    have = [run for run in runs if entropy_of(run) is not None]
    panels = [_entropy_panel(runs)] if have else []
    panels += [panel for name in COEFFICIENTS if (panel := _coefficient_panel(runs, name))]
    missing = lacking(runs, have, f"{ENTROPY} and no {VERL_ENTROPY}", REMEDY)
    return Section("entropy", "Entropy and its target", LEAD, panels, missing, _substitutes(have))


def _entropy_panel(runs: list[Run]) -> Panel:
    curves: list[Curve] = []
    for colour, run in enumerate(runs):
        data, target = entropy_of(run), run.first_of(TARGET)
        if data is not None:
            curves += noisy(run.name, data, colour)
        if target:
            curves.append(curve(f"{run.name}: target", target[1], colour, "dashed"))
    return Panel("Policy entropy", "step", "entropy (nats per token)", curves, zero=True)


def _coefficient_panel(runs: list[Run], name: str) -> Panel | None:
    curves: list[Curve] = []
    for colour, run in enumerate(runs):
        data = run.metrics.get(f"entropo/{name}")
        if data is not None and len(data):
            curves.append(curve(run.name, data, colour, "step"))
            curves += _at_bound(run, data, name, colour)
    if not curves:
        return None
    title = f"The controller's moves: {COEFFICIENTS[name]}"
    return Panel(title, "step", name, curves, zero=True, height=0.62)


def _at_bound(run: Run, data: Series, name: str, colour: int) -> list[Curve]:
    """Dots where the coefficient is as large as it may be; a step's flag speaks of the coefficient that it leads to."""
    flags = run.metrics.get(f"entropo/{name}_at_bound")
    if flags is None:
        return []
    keep = np.isin(data.steps, flags.steps[flags.values > 0.5] + 1)
    if not keep.any():
        return []
    shown = thin(Series(data.steps[keep], data.values[keep]), 60)
    label = f"{run.name}: at its bound"
    return [Curve(label, shown.steps.astype(float).tolist(), shown.values.tolist(), colour, "dots")]


def _substitutes(have: list[Run]) -> list[str]:
    names = [run.name for run in have if run.first_of(ENTROPY, VERL_ENTROPY)[0] == VERL_ENTROPY]  # type: ignore[index]
    if not names:
        return []
    return [
        f"{', '.join(names)}: drawn from verl's {VERL_ENTROPY}, whose mean follows loss_agg_mode, not always tokens."
    ]
