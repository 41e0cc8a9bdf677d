"""The entropy that a controller steers to."""

from __future__ import annotations

from typing import Any

from entropo_plugin.config import Target
from entropo_plugin.control.schedules import scheduled

# nats; a vocabulary of e^100 tokens. Rounding can leave an entropy a little below 0.
LARGEST_ENTROPY = 100.0


def plausible(entropy: float | None) -> bool:
    """Whether a model can have this token-mean entropy (nats): finite, in [-1, 100]."""
    return entropy is not None and -1 <= entropy <= LARGEST_ENTROPY


class TargetTracker:
    """Turns the settings of a target and the first measured entropy into a number.

    ``initial``: the first measured entropy times ``fraction`` (EPRL's target with fraction 1); ``value``: a constant.
    With a schedule the target goes there from ``start``, or from the first measured entropy (ours).
    """

    def __init__(self, settings: Target):
        self.settings = settings
        self.initial: float | None = None
        self.steps = 0

    def observe(self, entropy: float) -> float:
        """Target in nats per token, given this step's measured entropy; the first one is remembered."""
        if self.initial is None:
            self.initial = entropy
        each, step = self.settings, self.steps
        self.steps += 1
        end = each.fraction * self.initial if each.kind == "initial" else each.value
        assert end is not None
        start = self.initial if each.start is None else each.start
        if each.schedule == "constant":
            return end
        return scheduled(each.schedule, step, start, end, each.hold, each.steps, each.power)

    def state_dict(self) -> dict[str, Any]:
        return {"initial": self.initial, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off.

        Raises:
            ValueError: ``initial`` is no entropy of a model.
        """
        initial = None if state["initial"] is None else float(state["initial"])
        if initial is not None and not plausible(initial):
            raise ValueError(f"initial={initial:g}: no entropy of a model, in nats per token")
        self.initial = initial
        self.steps = int(state.get("steps", 0))
