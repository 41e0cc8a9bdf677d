"""What the controller did about entropy: one panel for each coefficient that some run moves."""

from __future__ import annotations

import numpy as np

from entropo_plugin.report.description import Coefficient
from entropo_plugin.report.figure import Curve, Panel, Section, curve, lacking
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series

LEAD = "The coefficients that a controller moves. Dots: as large as it may be, so that it cannot push further."


def coefficient_section(runs: list[Run]) -> Section:
    """The panels, in the order in which the runs name their coefficients."""
    stems = dict.fromkeys(stem for run in runs for stem in run.coefficients)
    section = Section("control", "The controller's moves", LEAD, [_panel(runs, stem) for stem in stems])
    none = lacking(runs, [], "coefficient that is moved", "Entropy control logs them.")
    section.missing.extend(none if not section.panels else [])
    return section


def _panel(runs: list[Run], stem: str) -> Panel:
    curves: list[Curve] = []
    said: list[Coefficient] = []
    for run in runs:
        data, what = run.coefficient(stem), run.coefficients.get(stem)
        if data is not None and what is not None:
            said.append(what)
            curves += [curve(run, data, "step"), *_bounds(run, what, data), *_at_bound(run, data, stem)]
    return Panel(_title(said), "step", stem, curves, zero=True)


def _title(said: list[Coefficient]) -> str:
    """What the runs call the coefficient, with its bounds and their setting where all agree on them."""
    labels = " / ".join(dict.fromkeys(what.label for what in said))
    facts = {", ".join(filter(None, (what.bounds, what.key))) for what in said}
    return f"{labels} ({facts.pop()})" if len(facts) == 1 and any(facts) else labels


def _bounds(run: Run, what: Coefficient, data: Series) -> list[Curve]:
    """A line at each bound that lies near enough not to flatten the picture.

    A coefficient may have both signs, with bounds for its size: a bound that its values cross is not drawn.
    """
    least, most = float(data.values.min()), float(data.values.max())
    reach = most - min(0.0, least)
    ends = data.steps[[0, -1]]
    near = {
        "upper bound": what.high if what.high is not None and most <= what.high <= most + reach else None,
        "lower bound": what.low if what.low and min(0.0, least) - reach <= what.low <= least else None,
    }
    return [curve(run, Series(ends, np.full(2, at)), "dashed", name) for name, at in near.items() if at is not None]


def _at_bound(run: Run, data: Series, stem: str) -> list[Curve]:
    """Dots where the coefficient is as large as it may be; a step's flag speaks of the coefficient that it leads to."""
    flags = run.at_bound(stem)
    dots = data.where(np.isin(data.steps, flags.steps[flags.values > 0.5] + 1)) if flags else None
    return [curve(run, dots, "dots", "at its bound")] if dots else []
