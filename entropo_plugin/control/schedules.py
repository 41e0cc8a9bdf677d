"""Schedules: a value that goes from a start to an end over steps, and the law that follows one.

Covariance methods are unbiased in the limit when their coefficient is annealed; no schedule is published (arXiv
2604.09676), so the forms are ours.
"""

from __future__ import annotations

import math
from typing import Any

from entropo_plugin.control.settings import Anneal


def scheduled(kind: str, step: int, start: float, end: float, hold: int, steps: int, power: float = 1.0) -> float:
    """Value at ``step``: ``start`` for ``hold`` steps, then towards ``end``.

    With ``t = step - hold``: ``linear`` and ``cosine`` reach the end at ``t = steps`` and stay; ``power`` nears it,
    ``end + (start - end) / (1 + t / steps)^power``; ``constant`` stays at the start.

    Args:
        step: 0 for the first step.
        hold, steps: in global steps.
    """
    passed = max(0, step - hold)
    return end + (start - end) * _left(kind, passed, max(1, steps), power)


def _left(kind: str, passed: int, steps: int, power: float) -> float:
    """Share of the way that is left, from 1 to 0."""
    done = min(1.0, passed / steps)
    if kind == "linear":
        return 1 - done
    if kind == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if kind == "power":
        return (1 + passed / steps) ** -power
    return 1.0


class Annealed:
    """A law that ignores the entropy: the coefficient follows its schedule from the first step's value."""

    def __init__(self, initial: float, settings: Anneal):
        self.initial, self.settings, self.step = initial, settings, 0

    def __call__(self, coefficient: float, entropy: float, target: float, low: float, high: float) -> float:
        """Coefficient of the next step; the arguments are those of every law."""
        self.step += 1
        each = self.settings
        return scheduled(each.kind, self.step, self.initial, each.end, each.hold, each.steps, each.power)

    def state_dict(self) -> dict[str, Any]:
        return {"initial": self.initial, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.initial, self.step = float(state["initial"]), int(state["step"])
