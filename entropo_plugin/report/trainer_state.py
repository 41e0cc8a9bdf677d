"""Reads ``trainer_state.json``, in which transformers keeps what a TRL run has logged up to a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.log import Log, Recorder, step_of
from entropo_plugin.report.search import STATE

LARGEST_STATE = 10**9


def read_trainer_state(path: Path) -> list[Log]:
    """The log of one run.

    Raises:
        ReportError: it is no such file, or holds nothing that the report draws.
    """
    recorder = Recorder(path)
    for record in _records(path):
        step = step_of(record.get("step")) if isinstance(record, dict) else None
        if step is not None:
            log = recorder.at(step, record)
            for name, value in record.items():
                log.add(step, name, value)
    if not any(log.columns for log in recorder.logs):
        raise ReportError(f"{path} logs none of the metrics that TRL's GRPOTrainer or entropo_plugin log.")
    return recorder.logs


def _records(path: Path) -> list[Any]:
    with opened(path, LARGEST_STATE) as file:
        try:
            history = json.loads(file.read())["log_history"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise ReportError(f"{path} is no {STATE} of transformers: it has no log_history.") from error
    if not isinstance(history, list):
        raise ReportError(f"{path} is no {STATE} of transformers: its log_history is no list.")
    return history
