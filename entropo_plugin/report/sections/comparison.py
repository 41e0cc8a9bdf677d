"""All runs in figures."""

from __future__ import annotations

from entropo_plugin.report.figure import Section, Table
from entropo_plugin.report.names import OTHERS
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series, summarise
from entropo_plugin.report.words import count, number

LEAD = (
    "Start and end are means over the first and the last tenth of the logged values; area is the integral over steps, "
    "so that a run's whole course counts and not only its end. Runs of different lengths compare by start and end only."
)
HEADS = ["metric, run", "start", "end", "change", "lowest", "highest", "area", "values", "last step"]


def comparison_section(runs: list[Run]) -> Section:
    """One table for each kind of metric that any run has."""
    labels: dict[str, list[list[str]]] = {}
    for run in runs:
        lost = [run.metric(name) for name in run.broken if not run.sound(name)]
        for label, data in measures(run).items():
            finite = all(data is not other for other in lost)
            labels.setdefault(label, []).append(_row(f"{label}, {run.name}", data, finite))
    rows = [row for same in labels.values() for row in same]
    return Section("comparison", "The runs in figures", LEAD, tables=[Table("Start, end and area", HEADS, rows)])


def measures(run: Run) -> dict[str, Series]:
    """Every series of a run that is worth a row, by its name and unit."""
    rows: dict[str, Series | None] = {"entropy (nats per token)": run.entropy, "training reward": run.score}
    rows |= {f"validation {source}": data for source, data in run.validation.items()}
    for where, passes in ({"training": run.training_pass} | run.validation_passes).items():
        if passes:
            rows[f"{where} pass@{max(passes)}"] = passes[max(passes)]
    for stem, what in run.coefficients.items():
        rows.setdefault(stem if what.label == stem else f"{what.label} ({stem})", run.coefficient(stem))
    rows |= {label: run.metric(name) for name, label in OTHERS.items()}
    return {label: data for label, data in rows.items() if data}


def _row(label: str, data: Series, finite: bool) -> list[str]:
    """Figures of the finite values; of a metric that is not finite at its end there is no end."""
    got = summarise(data)
    change = number(got.end - got.start)
    signed = change if change.startswith("\u2212") else f"+{change}"
    ends = [number(got.end), signed] if finite else ["not finite", "\u2013"]
    rest = [number(got.low), number(got.high), number(got.area), count(len(data)), count(data.last_step)]
    return [label, number(got.start), *ends, *rest]
