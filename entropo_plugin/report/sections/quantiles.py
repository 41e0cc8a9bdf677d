"""How entropy is spread over tokens: most tokens leave no choice, a few forking tokens carry the mean."""

from __future__ import annotations

from entropo_plugin.report.figure import Band, Panel, Section, curve, floats
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.metrics import ENTROPY, lacking
from entropo_plugin.report.series import together

LEAD = (
    "Light: the entropy of 90 % of all tokens; dark: of the middle half; line: the median; dashed: the mean. "
    "When the upper edge comes down to the median, the forking tokens are closing."
)
NAMES = [f"entropo/entropy/{level}" for level in ("q05", "q25", "q50", "q75", "q95")]


def quantile_section(runs: list[Run]) -> Section:
    """One panel a run, all on the same scale."""
    have = [run for run in runs if all(len(run.metrics.get(name, ())) for name in NAMES)]
    missing = lacking(runs, have, "entropo/entropy/q05 to q95", "Log them with +entropo=monitor.")
    drawn = [data.values for run in have for name, data in run.metrics.items() if name in (*NAMES, ENTROPY)]
    limits = min([0.0, *(float(each.min()) for each in drawn)]), max([0.0, *(float(each.max()) for each in drawn)])
    panels = [_panel(run, place, limits) for place, run in enumerate(runs) if run in have]
    return Section("quantiles", "Entropy of the tokens", LEAD, panels, missing)


def _panel(run: Run, place: int, limits: tuple[float, float]) -> Panel:
    steps, columns = together(*(run.metrics[name] for name in NAMES))
    x, (q05, q25, _, q75, q95) = floats(steps), map(floats, columns)
    curves = [curve(f"{run.name}: median", run.metrics[NAMES[2]], place)]
    if mean := run.first_of(ENTROPY):
        curves.append(curve(f"{run.name}: mean", mean[1], place, "dashed"))
    bands = [Band(x, q05, q95, place), Band(x, q25, q75, place)]
    return Panel(run.name, "step", "entropy (nats)", curves, bands, zero=True, limits=limits)
