"""Which logs of a folder are attempts at one run, in which order they came, and how they become one."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from entropo_plugin.report.log import Log
from entropo_plugin.report.search import is_events, natural
from entropo_plugin.report.series import Series, Steps, split
from entropo_plugin.side_file import stem as stem_of

# Names that say nothing about the run: its folder's name does.
NAMELESS = {"metrics", "log", "train", "trainer_state"}
# Words after which a number counts attempts.
COUNTED = {"try", "attempt", "part", "restart", "resume", "resumed"} | NAMELESS
NUMBERS = re.compile(r"[\W_0-9]*[0-9]$")
WORD = re.compile(r"([\W_]*)([^\W_0-9]+)$")


def run_name(path: Path) -> str | None:
    """The run that a log file is an attempt at: ``grpo`` for ``grpo-try-2``, "" for ``try-2`` or ``metrics``.

    None for a file that is no attempt, but a run of its own: no word of COUNTED stands at the end or before the number.
    """
    if is_events(path):
        return ""
    stem = NUMBERS.sub("", stem_of(path))
    word = WORD.search(stem)
    if word is None or word[2].lower() not in COUNTED:
        return None
    return stem[: word.start()]


def same_run(logs: list[Log]) -> tuple[bool, str]:
    """A key that the files of one folder share which are attempts at one run."""
    name = run_name(logs[0].path)
    return (False, logs[0].path.name) if name is None else (True, name)


def ordered(files: list[list[Log]]) -> list[Log]:
    """All attempts at one run, oldest first, by what the logs say; files keep the order of their own parts.

    By the time of their first record where every file tells one; else by their first step, for a resumed run begins
    later; files that begin at the same step go by name, ``try-2`` before ``try-10``. When they were last written says
    nothing: a copy changes it.
    """
    timed = all(logs[0].started is not None for logs in files)

    def place(logs: list[Log]) -> tuple[float, float, list[tuple[int, str]]]:
        return (logs[0].started or 0.0) if timed else 0.0, logs[0].first, natural(logs[0].path.name)

    return [log for logs in sorted(files, key=place) for log in logs]


def join(logs: list[Log]) -> tuple[dict[str, Series], dict[str, Steps], list[str]]:
    """Attempts at one run, oldest first, as one: at each step the later attempt's values stand.

    An attempt that resumes at step s throws away what the earlier ones did after s, and so does the join.

    Returns:
        Per metric its finite values; per metric the steps at which it was not finite; and notes.
    """
    parts = list(zip(logs, last_steps(logs), strict=True))
    notes = [
        f"{log.name} went on to step {log.last}; a later attempt starts at {until} and replaces it."
        for log, until in parts
        if log.last > until
    ]
    joined = {name: _joined(name, parts) for name in sorted({name for log in logs for name in log.columns})}
    finite = {name: data for name, (data, _) in joined.items() if len(data)}
    return finite, {name: broken for name, (_, broken) in joined.items() if len(broken)}, notes


def last_steps(logs: list[Log]) -> list[float]:
    """The last step of each attempt that still counts: the first of the later ones; infinite for the last."""
    firsts = [log.first for log in logs]
    return [min(firsts[place + 1 :], default=math.inf) for place in range(len(logs))]


def _joined(name: str, parts: list[tuple[Log, float]]) -> tuple[Series, Steps]:
    steps, values = [], []
    for log, until in parts:
        if name in log.columns:
            logged, numbers = map(np.asarray, log.columns[name])
            steps.append(logged[logged <= until])
            values.append(numbers[logged <= until])
    return split(np.concatenate(steps), np.concatenate(values))
