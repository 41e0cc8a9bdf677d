"""How far a run has come at each step, in tokens and in hours."""

from __future__ import annotations

import numpy as np

from entropo_plugin.report.runs import Run
from entropo_plugin.report.series import Series

# Metrics of one step, which are added up, and their unit's size; ours counts the responses' tokens alone.
PER_STEP = {
    "tokens": {"perf/total_num_tokens": 1.0, "entropo/tokens/count": 1.0},
    "hours": {"timing_s/step": 3600.0, "perf/time_per_step": 3600.0},
}
# TRL counts tokens itself.
TOTAL = ("num_tokens", "train/num_tokens")


def clock(run: Run, unit: str) -> Series | None:
    """Tokens or hours since the start at each step that logs them, 0 before the first; None where none does.

    Args:
        run: one run.
        unit: tokens | hours.
    """
    total = run.first_of(*TOTAL) if unit == "tokens" else None
    if total is not None:
        return total[1]
    one = run.first_of(*PER_STEP[unit])
    if one is None or (one[1].values < 0).any():
        return None
    spent = np.cumsum(one[1].values) / PER_STEP[unit][one[0]]
    return Series(np.append(one[1].steps[0] - 1, one[1].steps), np.append(0.0, spent))
