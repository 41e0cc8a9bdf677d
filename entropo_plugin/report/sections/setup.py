"""How the runs were started, and in which settings they differ."""

from __future__ import annotations

from entropo_plugin.report.figure import Section, Table, lacking
from entropo_plugin.report.run import Run
from entropo_plugin.report.words import NONE

LEAD = "What was run, when, and with which versions; and every setting in which two runs differ."
REMEDY = "It is read from run.json, from Hydra's folder (hydra.run.dir) or from verl's own log, beside the metrics."
MOST = 200


def setup_section(runs: list[Run]) -> Section:
    """A table of the starts and a table of the differences."""
    have = [run for run in runs if run.setup.config]
    started = [run for run in runs if run.setup.command or run.setup.started or run.setup.versions]
    rows = differences(have) if len(have) > 1 else []
    tables = [Table("Settings that differ", ["setting", *(run.name for run in have)], rows[:MOST])]
    tables.append(Table("Starts", ["run", "started", "versions", "command"], list(map(_start, started))))
    missing = lacking(runs, have, "configuration beside its log", REMEDY)
    return Section("setup", "How the runs were started", LEAD, missing=missing, tables=tables)


def differences(runs: list[Run]) -> list[list[str]]:
    """One row for each setting that is not the same in all runs."""
    names = sorted({name for run in runs for name in run.setup.config})
    rows = [[name, *(run.setup.config.get(name, NONE) for run in runs)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _start(run: Run) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in run.setup.versions.items())
    return [run.name, run.setup.started or NONE, versions or NONE, run.setup.command or NONE]
