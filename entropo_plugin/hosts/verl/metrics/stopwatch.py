"""Adds up the seconds that the driver spends on measuring."""

from __future__ import annotations

import time
from typing import Any


class Stopwatch:
    """``with watch:`` adds the time of its body by ``clock``: wall-clock time, unless another is put in its place."""

    def __init__(self) -> None:
        self.clock = time.perf_counter
        self.seconds = self._started = 0.0

    def __enter__(self) -> None:
        self._started = self.clock()

    def __exit__(self, *unused: Any) -> None:
        self.seconds += self.clock() - self._started

    def reset(self) -> float:
        """The seconds since the last reset."""
        found, self.seconds = self.seconds, 0.0
        return found
