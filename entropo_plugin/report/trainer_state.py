"""Reads ``trainer_state.json``, in which transformers keeps what a TRL run has logged up to a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.log import Recorder, step_of

LARGEST_STATE = 10**9


def read_trainer_state(path: Path, recorder: Recorder) -> None:
    """The log of one run.

    Raises:
        ReportError: it is no such file.
    """
    with opened(path, LARGEST_STATE) as file:
        try:
            history = json.loads(file.read())["log_history"]
        except (ValueError, RecursionError, KeyError, TypeError):
            history = None
    if not isinstance(history, list):
        raise ReportError(f"{path} is no {path.name} of transformers: it has no log_history.")
    for record in history:
        step = step_of(record.get("step")) if isinstance(record, dict) else None
        if step is not None:
            recorder.take(step, record)
