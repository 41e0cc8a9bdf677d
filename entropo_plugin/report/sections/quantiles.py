"""How entropy is spread over tokens: most tokens leave no choice, a few forking tokens carry the mean."""

from __future__ import annotations

import numpy as np

from entropo_plugin.report.downsample import curve
from entropo_plugin.report.figure import Band, Panel, Section, floats
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.metrics import ENTROPY, lacking
from entropo_plugin.report.series import Series, smooth, together

LEAD = (
    "Light: the entropy of 90 % of all tokens; dark: of the middle half; line: the median; dashed: the mean. "
    "When the upper edge comes down to the median, the forking tokens are closing."
)
LEVELS = ("q05", "q25", "q50", "q75", "q95")
REMEDY = "Log them with +entropo=monitor."
MOST = 300


def quantile_section(runs: list[Run]) -> Section:
    """One panel a run, all on the same scale."""
    have = [run for run in runs if all(len(run.metrics.get(_name(level), ())) for level in LEVELS)]
    missing = lacking(runs, have, "entropo/entropy/q05 to q95", REMEDY)
    section = Section("quantiles", "Entropy of the tokens", LEAD, missing=missing)
    limits = _limits(have)
    for colour, run in enumerate(runs):
        if run in have:
            section.panels.append(_panel(run, colour, limits, half=len(have) > 1))
    return section


def _name(level: str) -> str:
    return f"entropo/entropy/{level}"


def _shown(run: Run) -> tuple[list[float], list[list[float]]]:
    """Steps and the five quantiles, smoothed and at few steps."""
    parts = [run.metrics[_name(level)] for level in LEVELS]
    steps, columns = together(*parts)
    smoothed = [smooth(Series(steps, column)) or Series(steps, column) for column in columns]
    pick = np.unique(np.linspace(0, len(steps) - 1, min(MOST, len(steps))).astype(int))
    return floats(steps[pick]), [floats(each.values[pick]) for each in smoothed]


def _limits(runs: list[Run]) -> tuple[float, float]:
    """From 0 to the largest value that any of the panels shows; from below 0 where a log claims that."""
    values = [0.0]
    for run in runs:
        mean = run.first_of(ENTROPY)
        median = run.metrics[_name("q50")]
        values += [value for column in _shown(run)[1] for value in column]
        values += floats((smooth(median) or median).values)
        values += floats((smooth(mean[1]) or mean[1]).values) if mean else []
    return min(values), max(values)


def _panel(run: Run, colour: int, limits: tuple[float, float], half: bool) -> Panel:
    steps, (q05, q25, _q50, q75, q95) = _shown(run)
    bands = [Band(steps, q05, q95, colour), Band(steps, q25, q75, colour, strong=True)]
    median = run.metrics[_name("q50")]
    curves = [curve(f"{run.name}: median", smooth(median) or median, colour)]
    if mean := run.first_of(ENTROPY):
        curves.append(curve(f"{run.name}: mean", smooth(mean[1]) or mean[1], colour, "dashed"))
    return Panel(run.name, "step", "entropy (nats)", curves, bands, zero=True, y_limits=limits, half=half)
