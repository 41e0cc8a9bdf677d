"""All runs in figures."""

from __future__ import annotations

from operator import itemgetter

from entropo_plugin.report.figure import Section, Table
from entropo_plugin.report.names import OTHERS
from entropo_plugin.report.run import Run
from entropo_plugin.report.search import grouped
from entropo_plugin.report.series import Series, summarise
from entropo_plugin.report.words import count, number

LEAD = (
    "Start and end are means over the first and the last tenth of the logged values; area is the integral over steps, "
    "so that a run's whole course counts and not only its end. Runs of different lengths compare by start and end only."
)
HEADS = ["metric, run", "start", "end", "change", "lowest", "highest", "area", "values", "last step"]


def comparison_section(runs: list[Run]) -> Section:
    """One table for each kind of metric that any run has."""
    measured = [(label, run, data) for run in runs for label, data in measures(run).items()]
    rows = [_row(*each) for same in grouped(measured, itemgetter(0)).values() for each in same]
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


def _row(label: str, run: Run, data: Series) -> list[str]:
    """Figures of the finite values; of a metric that is not finite at its end there is no end."""
    got = summarise(data)
    finite = all(data is not run.metric(name) or run.sound(name) for name in run.broken)
    change = number(got.end - got.start)
    signed = change if change.startswith("\u2212") else f"+{change}"
    ends = [number(got.end), signed] if finite else ["not finite", "\u2013"]
    rest = [number(got.low), number(got.high), number(got.area), count(len(data)), count(data.last_step)]
    return [f"{label}, {run.name}", number(got.start), *ends, *rest]
