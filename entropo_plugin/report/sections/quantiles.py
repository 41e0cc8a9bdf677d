"""How entropy is spread over tokens: most tokens leave no choice, a few forking tokens carry the mean."""

from __future__ import annotations

from entropo_plugin.report.figure import Band, Panel, Section, curve, lacking
from entropo_plugin.report.names import ENTROPY
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import together

LEAD = (
    "Light: the entropy of 90 % of all tokens; dark: of the middle half; line: the median; dashed: the mean. "
    "When the upper edge comes down to the median, the forking tokens are closing."
)
NAMES = [f"entropo/entropy/{level}" for level in ("q05", "q25", "q50", "q75", "q95")]


def quantile_section(runs: list[Run]) -> Section:
    """One panel a run, all on the same scale."""
    have = [run for run in runs if all(map(run.metric, NAMES))]
    missing = lacking(runs, have, "entropo/entropy/q05 to q95", "Log them with +entropo=monitor.")
    drawn = [data.values for run in have for name in (*NAMES, ENTROPY) if (data := run.metric(name))]
    limits = min((0.0, *(float(each.min()) for each in drawn))), max((0.0, *(float(each.max()) for each in drawn)))
    return Section("quantiles", "Entropy of the tokens", LEAD, [_panel(run, limits) for run in have], missing)


def _panel(run: Run, limits: tuple[float, float]) -> Panel:
    steps, (q05, q25, _, q75, q95) = together(*(run.metrics[name] for name in NAMES))
    curves = [curve(run, run.metrics[NAMES[2]], what="median")]
    curves += [curve(run, mean, "dashed", "mean")] if (mean := run.metric(ENTROPY)) else []
    bands = [Band(steps, q05, q95, run.place), Band(steps, q25, q75, run.place)]
    return Panel(run.name, "step", "entropy (nats)", curves, bands, zero=True, limits=limits)
