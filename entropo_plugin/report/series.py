"""One metric over the steps of a run: thinning, smoothing and the figures that sum it up. Pure numpy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Shares of a run: its start and its end are averaged over this much, and a curve is smoothed over that much.
END_SHARE = 0.1
SMOOTH_SHARE = 0.04


Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """A metric's finite values.

    Attributes:
        steps: ``(points,)`` ascending, each once.
        values: ``(points,)``.
    """

    steps: Steps
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last_step(self) -> int:
        return int(self.steps[-1])

    def where(self, keep: NDArray[np.bool_]) -> Series:
        """The points at which ``keep``, ``(points,)``, is true."""
        return Series(self.steps[keep], self.values[keep])


@dataclass(frozen=True)
class Summary:
    """A series in figures.

    Attributes:
        start, end: means over the first and the last tenth of the points.
        low, high: extremes.
        area: integral over steps by trapezoids, unit of the metric times steps.
    """

    start: float
    end: float
    low: float
    high: float
    area: float


def series(steps: ArrayLike, values: ArrayLike) -> Series:
    """Sort by step; where a step occurs twice, its last value stands; values that are not finite are left out."""
    return split(steps, values)[0]


def split(steps: ArrayLike, values: ArrayLike) -> tuple[Series, Steps]:
    """The finite values as a series, and the steps at which the value is not finite; a step's last value stands."""
    logged, numbers = np.asarray(steps, dtype=np.int64)[::-1], np.asarray(values, dtype=np.float64)[::-1]
    unique, last = np.unique(logged, return_index=True)
    numbers = numbers[last]
    finite = np.isfinite(numbers)
    return Series(unique[finite], numbers[finite]), unique[~finite]


def summarise(data: Series) -> Summary:
    """Sum up a series with at least one point."""
    window, values = max(1, round(END_SHARE * len(data))), data.values
    figures = (values[:window].mean(), values[-window:].mean(), values.min(), values.max(), area(data))
    return Summary(*map(float, figures))


def area(data: Series) -> float:
    """``sum (x_{i+1} - x_i) (y_i + y_{i+1}) / 2``."""
    gaps, values = np.diff(data.steps), data.values
    return float((gaps * (values[1:] + values[:-1]) / 2).sum())


def thin(data: Series, most: int) -> Series:
    """At most ``most`` points that keep the first, the last and every extreme of the drawn picture.

    The points are cut into equal runs, and of each run its smallest and its largest value stay.
    """
    n = len(data)
    if n <= most:
        return data
    edges = np.linspace(0, n, max(1, (most - 2) // 2) + 1).astype(int)
    parts = [(low, data.values[low:high]) for low, high in itertools.pairwise(edges)]
    kept = {0, n - 1} | {int(low + place) for low, part in parts for place in (part.argmin(), part.argmax())}
    index = np.array(sorted(kept))
    return Series(data.steps[index], data.values[index])


def blocked(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Means over consecutive blocks of ``size``; the last block may be shorter."""
    starts = np.arange(0, len(values), size)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values))) if len(values) else values


def smooth(data: Series) -> Series | None:
    """Centred running mean over 4 % of the points; None for a series too short to need one."""
    half = int(SMOOTH_SHARE * len(data) / 2)
    window = np.ones(2 * half + 1)
    sums, counts = (np.convolve(each, window, "same") for each in (data.values, np.ones(len(data))))
    return Series(data.steps, sums / counts) if half else None


def together(*parts: Series) -> tuple[Steps, list[NDArray[np.float64]]]:
    """The steps that all series share, and each one's values there."""
    shared = parts[0].steps
    for part in parts[1:]:
        shared = np.intersect1d(shared, part.steps, assume_unique=True)
    return shared, [part.values[np.searchsorted(part.steps, shared)] for part in parts]


def noise(values: NDArray[np.float64]) -> float:
    """Standard deviation of one value about a smooth course: 1.48 median |d - median d| / sqrt 2, d its changes."""
    changes = np.diff(values)
    return 1.4826 * float(np.median(np.abs(changes - np.median(changes)))) / 2**0.5
