"""The entropy that a controller steers to."""

from __future__ import annotations

from typing import Any

from entropo_plugin.config import Target


class TargetTracker:
    """Turns the settings of a target and the first measured entropy into a number.

    ``initial``: the first measured entropy times ``fraction`` (EPRL's target with fraction 1); ``value``: a constant.
    """

    def __init__(self, settings: Target):
        self.settings = settings
        self.initial: float | None = None

    def observe(self, entropy: float) -> float:
        """Target in nats per token, given this step's measured entropy; the first one is remembered."""
        if self.initial is None:
            self.initial = entropy
        if self.settings.kind == "value":
            assert self.settings.value is not None
            return self.settings.value
        return self.settings.fraction * self.initial

    def state_dict(self) -> dict[str, Any]:
        return {"initial": self.initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.initial = None if state["initial"] is None else float(state["initial"])
