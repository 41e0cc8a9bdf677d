"""A straight line through points that arrive one by one; its whole memory is six numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

LARGEST = 1e25


class RunningLine:
    """Least squares ``y = slope * x + intercept`` by Welford's updates; the state is JSON.

    Attributes:
        n: points so far.
        mean_x, mean_y: their means.
        xx, yy, xy: sums of squared and mixed deviations from the means.
    """

    FIELDS = ("mean_x", "mean_y", "xx", "yy", "xy")

    def __init__(self) -> None:
        self.n = 0
        self.mean_x = self.mean_y = self.xx = self.yy = self.xy = 0.0

    @classmethod
    def through(cls, points: Iterable[tuple[float, float]]) -> RunningLine:
        """The line through finished ``(x, y)`` points."""
        line = cls()
        for x, y in points:
            line.add(x, y)
        return line

    def add(self, x: float, y: float) -> None:
        """Take one finite point; one larger than 1e25 is passed over, because its square would spoil all sums."""
        if not (abs(x) <= LARGEST and abs(y) <= LARGEST):
            return
        self.n += 1
        dx, dy = x - self.mean_x, y - self.mean_y
        self.mean_x += dx / self.n
        self.mean_y += dy / self.n
        self.xx += dx * (x - self.mean_x)
        self.yy += dy * (y - self.mean_y)
        self.xy += dx * (y - self.mean_y)

    @property
    def spread(self) -> float:
        """Standard deviation of x over the points."""
        return math.sqrt(self.xx / self.n) if self.n else 0.0

    @property
    def slope(self) -> float | None:
        """Rise of y per unit of x; None while x has no spread."""
        return self.xy / self.xx if self._spread_is_real(self.xx, self.mean_x) else None

    @property
    def correlation(self) -> float | None:
        """Pearson's r in [-1, 1]; None while x or y has no spread."""
        if not (self._spread_is_real(self.xx, self.mean_x) and self._spread_is_real(self.yy, self.mean_y)):
            return None
        return max(-1.0, min(1.0, self.xy / math.sqrt(self.xx) / math.sqrt(self.yy)))

    def _spread_is_real(self, deviations: float, mean: float) -> bool:
        """Whether deviations exceed what rounding alone leaves among equal numbers."""
        return self.n > 1 and deviations > self.n * (1e-14 * mean) ** 2 and deviations > 1e-300

    def state_dict(self) -> dict[str, float]:
        """State as plain JSON values."""
        return {"n": self.n} | {name: getattr(self, name) for name in self.FIELDS}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue where :meth:`state_dict` left off."""
        self.n = int(state["n"])
        for name in self.FIELDS:
            setattr(self, name, float(state[name]))
