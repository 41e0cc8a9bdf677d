"""The entropy that the control loop steers to."""

from __future__ import annotations

from typing import Any

from entropo_plugin.control.schedules import scheduled
from entropo_plugin.control.settings import Target

# nats; a vocabulary of e^100 tokens. Rounding can leave an entropy a little below 0.
LARGEST_ENTROPY = 100.0


def plausible(entropy: float | None) -> bool:
    """Whether a model can have this token-mean entropy (nats): finite, in [-1, 100]."""
    return entropy is not None and -1 <= entropy <= LARGEST_ENTROPY


class TargetTracker:
    """Turns the settings of a target and the first measured entropy into a number.

    ``initial``, and ``auto`` where no method has a target of its own: the first measured entropy times ``fraction``
    (arXiv 2603.11682 with fraction 1); ``value``: a constant. With a schedule the target goes there from ``start``, or
    from the first measured entropy (ours).
    """

    def __init__(self, settings: Target):
        self.settings = settings
        self.initial: float | None = None
        self.steps = 0

    def at(self, entropy: float, ahead: int = 0) -> float:
        """Target in nats per token of this step, or of a later one, given this step's measured entropy."""
        settings = self.settings
        initial = entropy if self.initial is None else self.initial
        end = settings.value if settings.kind == "value" else settings.fraction * initial
        assert end is not None
        if settings.schedule == "constant":
            return end
        start = initial if settings.start is None else settings.start
        step = self.steps + ahead
        return scheduled(settings.schedule, step, start, end, settings.hold, settings.steps, settings.power)

    def observe(self, entropy: float) -> float:
        """This step's target; the first measured entropy is remembered, and the next step's target is its next."""
        target = self.at(entropy)
        if self.initial is None:
            self.initial = entropy
        self.steps += 1
        return target

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
