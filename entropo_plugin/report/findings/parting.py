"""Where two runs part, and when a falling entropy will have nothing left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from entropo_plugin.report.findings.entropy import COLLAPSED, aim_of
from entropo_plugin.report.findings.finding import LEAST_POINTS, Finding
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series, noise, summarise, together
from entropo_plugin.report.words import count, number

# Runs part where they differ by so many times their noise, for so many steps in a row.
TIMES, IN_A_ROW = 3.0, 3
# A rate is taken from this share of the run, its end, and from so many values at least.
RECENT, LEAST_RECENT = 0.2, 10
# A floor beyond so many lengths of the run is no news.
FAR = 3.0


def parting(runs: list[Run]) -> list[Finding]:
    """The first step at which each run parts from the first one, in entropy and in reward."""
    first, said = runs[0], []
    for run in runs[1:]:
        pairs = {"entropy": (first.sound_entropy, run.sound_entropy), "reward": (first.sound_score, run.sound_score)}
        steps = {what: part(mine, other) for what, (mine, other) in pairs.items() if mine and other}
        places = [f"{count(step)} ({what})" for what, step in steps.items() if step is not None]
        said += [f"{run.name} at step {', '.join(places)}"] if places else []
    how = f"From there they differ by more than {TIMES:g} times their step-to-step noise, {IN_A_ROW} steps in a row."
    return [Finding("fact", "Runs part", f"From {first.name} part: {'; '.join(said)}. {how}")] if said else []


def part(first: Series, second: Series) -> int | None:
    """The first shared step from which on the difference exceeds the noise for IN_A_ROW steps; None where none does."""
    steps, (a, b) = together(first, second)
    if len(steps) < LEAST_POINTS:
        return None
    least = 1e-9 * float(np.abs(a).max() + np.abs(b).max())
    apart = np.abs(a - b) > max(TIMES * float(np.hypot(noise(a), noise(b))), least)
    runs = np.convolve(apart, np.ones(IN_A_ROW), "valid") == IN_A_ROW
    return int(steps[runs.argmax()]) if runs.any() else None


def floor(run: Run) -> list[Finding]:
    """Steps until entropy reaches a quarter of its start at the present rate, with a 95 % interval of that rate."""
    data, aim = run.sound_entropy, aim_of(run)
    if data is None or len(data) < 2 * LEAST_RECENT or (aim is not None and aim.reached):
        return []
    size = max(LEAST_RECENT, round(RECENT * len(data)))
    low = COLLAPSED * summarise(data).start
    level, slope, error = rate(data.steps[-size:], data.values[-size:])
    if slope + 2 * error >= 0 or level <= low or low <= 0:
        return []
    soon, late = (level - low) / (2 * error - slope), (level - low) / -(slope + 2 * error)
    ahead = (level - low) / -slope
    if ahead > FAR * (data.last_step - int(data.steps[0])):
        return []
    text = f"{run.name}: at the rate of its last {count(size)} values, {number(slope)} nats a step, entropy reaches "
    text += f"{number(low)} nats, a quarter of its start, in {count(round(ahead))} steps "
    text += f"(95 % interval {count(round(soon))} to {count(round(late))})."
    return [Finding("note", "Floor ahead", text, run.name)]


def rate(steps: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Least-squares line: its value at the last step, slope, and the slope's standard error.

    Residuals follow each other: with correlation r between neighbours the error grows by ``sqrt((1 + r) / (1 - r))``.
    """
    x = steps - steps.mean()
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    spread = float(rest @ rest)
    r = min(max(float(rest[1:] @ rest[:-1]) / spread, 0.0), 0.9) if spread > 0 else 0.0
    error = (spread / (len(x) - 2) / float(x @ x) * (1 + r) / (1 - r)) ** 0.5
    return float(values.mean() + slope * x[-1]), slope, error
