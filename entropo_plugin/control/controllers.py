"""The state machine around a law: one observation per global step, one coefficient for the next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from entropo_plugin.config import Target
from entropo_plugin.control.laws import LAWS, Options
from entropo_plugin.control.targets import TargetTracker, plausible

# The widest bound of any coefficient in config.py, KL-Cov's beta.
LARGEST = 1e3
OPEN_LOOP = ("fixed", "annealed")


@dataclass(frozen=True)
class Move:
    """What one observation did to the coefficient."""

    used: float
    following: float
    entropy: float
    target: float
    at_bound: bool


class Controller:
    """Moves one coefficient after every global step so that entropy follows its target.

    Args:
        law: name of a law in :data:`entropo_plugin.control.laws.LAWS`.
        initial: coefficient of the first step.
        low: smallest size of the coefficient.
        high: largest size of the coefficient.
        target: settings of the entropy to steer to.
        options: constants of the law; None for the laws' defaults.
    """

    def __init__(
        self, law: str, initial: float, low: float, high: float, target: Target, options: Options | None = None
    ):
        self.law, self.low, self.high = law, low, high
        self.target = TargetTracker(target)
        self.coefficient = initial
        self.options = options or Options()
        self._law = LAWS[law](initial, self.options)
        self.steps = 0
        self.skipped = 0

    def step(self, entropy: float | None) -> Move | None:
        """Take one step's token-mean entropy (nats) and move the coefficient for the next step.

        A measurement that is missing, or that no model can have, moves nothing and is counted in ``skipped``; a law
        that follows no entropy goes on without it, and the move's entropy and target are NaN.
        """
        if entropy is None or not plausible(entropy):
            if self.law not in OPEN_LOOP:
                self.skipped += 1
                return None
            entropy = target = math.nan
        else:
            target = self.target.observe(entropy)
        used = self.coefficient
        self.coefficient = self._law(used, entropy, target, self.low, self.high)
        self.steps += 1
        return Move(used, self.coefficient, entropy, target, self._at_bound())

    def _at_bound(self) -> bool:
        """Whether the law has nothing left to give; a coefficient that follows no entropy is never at a bound."""
        if self.law in OPEN_LOOP:
            return False
        return abs(self.coefficient) >= self.high or (not self.options.signed and self.coefficient <= self.low)

    def _bounded(self, coefficient: float) -> float:
        if self.law in OPEN_LOOP:
            return coefficient
        return min(self.high, max(-self.high if self.options.signed else self.low, coefficient))

    def state_dict(self) -> dict[str, Any]:
        """State as plain JSON values; floats survive JSON bit for bit."""
        memory = getattr(self._law, "state_dict", None)
        return {
            "law": self.law,
            "coefficient": self.coefficient,
            "steps": self.steps,
            "skipped": self.skipped,
            "target": self.target.state_dict(),
        } | ({"memory": memory()} if memory else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off; a coefficient beyond the present bounds is moved to the nearest.

        Raises:
            ValueError: a coefficient that no setting allows, or an initial entropy that no model has.
        """
        coefficient = float(state["coefficient"])
        if not abs(coefficient) <= LARGEST:
            raise ValueError(f"coefficient={coefficient:g}: no setting allows more than {LARGEST:g}")
        self.coefficient = self._bounded(coefficient)
        self.steps, self.skipped = int(state["steps"]), int(state["skipped"])
        self.target.load_state_dict(state["target"])
        if "memory" in state:
            self._law.load_state_dict(state["memory"])  # type: ignore[attr-defined]
