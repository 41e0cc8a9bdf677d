"""The numbers of the page as JSON: which run looks how, and every curve, thinned to what a page may hold."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from entropo_plugin.report.figure import Band, Curve, Panel, Section
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series, blocked, thin
from entropo_plugin.report.words import clean

COLOURS = 8
# Points of all curves of a page together, some 12 bytes each, and of one curve at most and at least.
POINTS, MOST, LEAST = 40_000, 800, 60
CLOCK_POINTS = 200
SEED = re.compile(r"[\W_]*seeds?[\W_]*[0-9]+", re.IGNORECASE)


def payload(runs: list[Run], sections: list[Section]) -> str:
    """One JSON object that may stand in a ``<script>`` of HTML: no ``<`` in it, and nothing that is no number."""
    panels = {f"{section.key}-{i}": panel for section in sections for i, panel in enumerate(section.panels)}
    curves = sum(len(panel.curves) + 2 * len(panel.bands) for panel in panels.values())
    most = max(LEAST, min(MOST, POINTS // max(1, curves)))
    charts = {ident: _chart(panel, most) for ident, panel in panels.items()}
    numbers = clean({"runs": looks(runs), "charts": charts})
    return json.dumps(numbers, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def looks(runs: list[Run]) -> list[dict[str, Any]]:
    """Name, colour, dash, group and clocks of each run.

    Runs that differ by their seed alone are one group and share a colour; dashes tell them apart, and the ninth colour.
    """
    keys: list[Any] = [configuration(run) for run in runs]
    groups, several = list(dict.fromkeys(keys)), len(set(keys)) < len(keys)
    named = [SEED.sub("", runs[keys.index(key)].name).strip("/-_ .") or "seeds" for key in groups]
    found = []
    for place, (run, key) in enumerate(zip(runs, keys, strict=True)):
        group, same = groups.index(key), keys.count(key)
        colour = group if several else place
        dash = keys[:place].count(key) + colour // COLOURS * max(map(keys.count, groups))
        look = {"name": run.name, "colour": colour % COLOURS, "dash": dash, "last": run.last_step}
        look |= {"group": group, "groupName": named[group] if same > 1 else run.name, "seeds": same}
        found.append(look | _clocks(run))
    return found


def configuration(run: Run) -> tuple[str, Any]:
    """What runs of one configuration share: the name without its seed, if it has one, and the settings that last."""
    name = SEED.sub("", run.name)
    return "" if name == run.name and run.setup.config else name, run.setup.lasting


def _clocks(run: Run) -> dict[str, Any]:
    clocks = {unit: run.clock(unit) for unit in ("tokens", "hours")}
    return {unit: _points(thin(data, CLOCK_POINTS)) for unit, data in clocks.items() if data is not None}


def _chart(panel: Panel, most: int) -> dict[str, Any]:
    curves = [_curve(each, most) for each in panel.curves]
    return vars(panel) | {"curves": curves, "bands": [_band(each, most) for each in panel.bands]}


def _curve(curve: Curve, most: int) -> dict[str, Any]:
    """Points that keep every extreme; where some are left out, the means between them as well, for smoothing."""
    data = Series(np.asarray(curve.x), np.asarray(curve.y))
    points: dict[str, Any] = {"run": curve.run, "label": curve.label, "style": curve.style}
    points["points"] = _points(thin(data, most))
    if len(data) > most:
        size = -(-2 * len(data) // most)
        points["means"] = [_short(blocked(side, size)) for side in (data.steps.astype(float), data.values)]
    return points


def _band(band: Band, most: int) -> dict[str, Any]:
    """Both edges at the same steps."""
    pick = np.unique(np.linspace(0, len(band.x) - 1, min(most // 2, len(band.x))).astype(int))
    sides = {"x": band.x, "low": band.low, "high": band.high}
    return {"run": band.run} | {name: _short(np.asarray(side)[pick]) for name, side in sides.items()}


def _points(data: Series) -> list[list[float]]:
    return [_short(data.steps), _short(data.values)]


def _short(values: Any) -> list[float]:
    """Six digits, which is more than a screen shows; whole numbers without a point."""
    return [int(v) if v == int(v) and abs(v) < 1e15 else float(f"{v:.6g}") for v in map(float, values)]
