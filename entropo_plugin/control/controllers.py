"""The state machine around a law: one measurement per global step, one coefficient for the next."""

from __future__ import annotations

import math
from typing import Any

from entropo_plugin.control.coefficients import OPEN_LOOP, Coefficient
from entropo_plugin.control.laws import LAWS

# The widest bound of any setting, KL-Cov's beta.
LARGEST = 1e3


class Controller:
    """Moves one coefficient after every global step so that entropy follows its target.

    Args:
        coefficient: law, first value, bounds and constants.
    """

    def __init__(self, coefficient: Coefficient):
        self.about = coefficient
        self.value = coefficient.initial
        self._law = LAWS[coefficient.law](coefficient.initial, coefficient.options)
        self.steps = 0

    @property
    def law(self) -> str:
        return self.about.law

    @property
    def adapts(self) -> bool:
        """Whether it follows the measured entropy; otherwise it moves without one."""
        return self.law not in OPEN_LOOP

    @property
    def applied(self) -> float:
        """The value that acts in the present step; 0 while its law's gate is shut."""
        value = self.value * getattr(self._law, "gate", 1.0)
        return value if self.about.applied is None else self.about.applied(value)

    def step(self, entropy: float = math.nan, target: float = math.nan) -> None:
        """Move for the next step.

        Args:
            entropy, target: this step's token-mean entropy and the wanted one, nats; NaN where there is none, for the
                laws that follow no entropy.
        """
        self.value = self._law(self.value, entropy, target, self.about.low, self.about.high)
        self.steps += 1

    @property
    def at_bound(self) -> bool:
        """Whether the law is at its bound; a coefficient that follows no entropy never is."""
        about = self.about
        if not self.adapts:
            return False
        return abs(self.value) >= about.high or (not about.options.signed and self.value <= about.low)

    def _bounded(self, value: float) -> float:
        if not self.adapts:
            return value
        return min(self.about.high, max(-self.about.high if self.about.options.signed else self.about.low, value))

    def state_dict(self) -> dict[str, Any]:
        """State as plain JSON values; floats survive JSON bit for bit."""
        memory = getattr(self._law, "state_dict", None)
        state: dict[str, Any] = {"law": self.law, "value": self.value, "steps": self.steps}
        return state | ({"memory": memory()} if memory else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off; a value beyond the present bounds is moved to the nearest.

        Raises:
            ValueError: a value that no setting allows.
        """
        value = float(state["value"])
        if not abs(value) <= LARGEST:
            raise ValueError(f"value={value:g}: no setting allows more than {LARGEST:g}")
        self.value, self.steps = self._bounded(value), int(state["steps"])
        if "memory" in state:
            self._law.load_state_dict(state["memory"])  # type: ignore[attr-defined]
