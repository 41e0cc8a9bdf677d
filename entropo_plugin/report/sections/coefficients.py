"""What the controller did about entropy: one panel for each coefficient that some run moves."""

from __future__ import annotations

import numpy as np

from entropo_plugin.report.description import Coefficient
from entropo_plugin.report.figure import Curve, Panel, Section, curve, floats
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.metrics import AT_BOUND, coefficients, lacking
from entropo_plugin.report.series import Series

LEAD = "The coefficients that a controller moves. Dots: as large as it may be, so that it cannot push further."


def coefficient_section(runs: list[Run]) -> Section:
    """The panels, in the order in which the runs name their coefficients."""
    stems = dict.fromkeys(stem for run in runs for stem in coefficients(run))
    panels = [panel for stem in stems if (panel := _panel(runs, stem))]
    missing = [] if panels else lacking(runs, [], "coefficient that is moved", "Entropy control logs them.")
    return Section("control", "The controller's moves", LEAD, panels, missing)


def _panel(runs: list[Run], stem: str) -> Panel | None:
    curves: list[Curve] = []
    said: list[Coefficient] = []
    for colour, run in enumerate(runs):
        data, what = run.metrics.get(f"entropo/{stem}"), coefficients(run).get(stem)
        if data is not None and len(data) and what is not None:
            said.append(what)
            curves.append(curve(run.name, data, colour, "step"))
            curves += _bounds(run.name, what, data, colour) + _at_bound(run, data, stem, colour)
    if not curves:
        return None
    return Panel(_title(said), "step", stem, curves, zero=True)


def _title(said: list[Coefficient]) -> str:
    """What the runs call the coefficient, with its bounds and their setting where all agree on them."""
    labels = " / ".join(dict.fromkeys(what.label for what in said))
    facts = {", ".join(filter(None, (what.bounds, what.key))) for what in said}
    fact = facts.pop()
    return f"{labels} ({fact})" if fact and not facts else labels


def _bounds(name: str, what: Coefficient, data: Series, colour: int) -> list[Curve]:
    """A line at each bound that lies near enough not to flatten the picture.

    A coefficient may have both signs, with bounds for its size: a bound that its values cross is not drawn.
    """
    low, high = min(0.0, float(data.values.min())), float(data.values.max())
    reach = high - low
    ends = [float(data.steps[0]), float(data.steps[-1])]
    lines = []
    if what.high is not None and high <= what.high <= high + reach:
        lines.append(Curve(f"{name}: upper bound", ends, [what.high] * 2, colour, "dashed"))
    if what.low is not None and low - reach <= what.low <= float(data.values.min()) and what.low != 0:
        lines.append(Curve(f"{name}: lower bound", ends, [what.low] * 2, colour, "dashed"))
    return lines


def _at_bound(run: Run, data: Series, stem: str, colour: int) -> list[Curve]:
    """Dots where the coefficient is as large as it may be; a step's flag speaks of the coefficient that it leads to."""
    flags = run.metrics.get(f"entropo/{stem}{AT_BOUND}")
    if flags is None:
        return []
    keep = np.isin(data.steps, flags.steps[flags.values > 0.5] + 1)
    if not keep.any():
        return []
    return [Curve(f"{run.name}: at its bound", floats(data.steps[keep]), floats(data.values[keep]), colour, "dots")]
