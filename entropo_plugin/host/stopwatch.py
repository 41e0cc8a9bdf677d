"""Adds up the seconds that the driver spends on measuring."""

from __future__ import annotations

import time
from typing import Any


class Stopwatch:
    """``with watch:`` adds the wall-clock time of its body; :meth:`reset` returns the sum and starts anew."""

    def __init__(self) -> None:
        self.seconds = self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *unused: Any) -> None:
        self.seconds += time.perf_counter() - self._started

    def reset(self) -> float:
        """The seconds since the last reset."""
        found, self.seconds = self.seconds, 0.0
        return found
