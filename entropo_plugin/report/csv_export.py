"""Reads W&B's CSV: a picture's table, ``Step,RUN - METRIC,...``, or one run's history, ``_step,METRIC,...``."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.jsonl import NoLog
from entropo_plugin.report.log import Log, number_of, step_of

STEPS = ("Step", "_step", "step", "global_step", "train/global_step")
EXTREMES = ("__MIN", "__MAX")


def read_csvs(paths: list[Path], errors: list[ReportError]) -> list[list[Log]]:
    """The runs in these files; what several files tell of one run is put together."""
    runs: dict[Path, Log] = {}
    for path in paths:
        try:
            _read(path, runs)
        except ReportError as error:
            errors.append(error)
        except (OSError, csv.Error) as error:
            errors.append(NoLog(f"{path} cannot be read: {error}."))
    return [[log] for log in runs.values() if log.columns]


def _read(path: Path, runs: dict[Path, Log]) -> None:
    with opened(path) as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", "replace", newline=""))
        heads = next(rows, [])
        step = next((heads.index(name) for name in STEPS if name in heads), None)
        if step is None:
            raise NoLog(f"{path} is no export of W&B: none of its columns is called {', '.join(STEPS)}.")
        targets = [_target(path, head) for head in heads]
        for row in rows:
            at = number_of(row[step]) if step < len(row) else None
            place = None if at is None else step_of(at)
            for (run, metric), value in zip(targets, row, strict=False) if place is not None else ():
                if metric and value:
                    runs.setdefault(run, Log(run)).add(place, metric, value)  # type: ignore[arg-type]


def _target(path: Path, head: str) -> tuple[Path, str]:
    """The run that a column belongs to, as the log that it could have been, and its metric; none for extremes."""
    run, dash, metric = head.rpartition(" - ")
    named = path.with_name(run.replace("/", "-")[:100] + ".csv") if dash and run.strip(". ") else path
    return named, "" if metric.endswith(EXTREMES) or metric in STEPS else metric
