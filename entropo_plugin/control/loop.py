"""The control loop: one entropy a global step in, every coefficient of the next step out. It knows no host."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from entropo_plugin.control.coefficients import MEASURED, Coefficient, Control, Measured
from entropo_plugin.control.controllers import Controller
from entropo_plugin.control.settings import Target, check_ceiling
from entropo_plugin.control.targets import TargetTracker, plausible
from entropo_plugin.control.watch import ActuatorWatch

logger = logging.getLogger("entropo_plugin")

PATIENCE = 20
FIRST = "The policy has no choice left, or the entropy is not measured: set entropo.target.kind=value and a value."


class ControlLoop:
    """Owns the target, once, and one controller for every coefficient that moves from step to step.

    A global step is: :meth:`observe` for each batch, :meth:`take` for what is measured from it, :meth:`end_step` once.

    Args:
        coefficients: by name; the name is that of the metric, behind ``entropo/``.
        target: settings of the entropy to steer to.
        patience: steps after which a coefficient that entropy moves against is said; 0: never.
    """

    def __init__(self, coefficients: Mapping[str, Coefficient], target: Target, patience: int = PATIENCE):
        self.coefficients = dict(coefficients)
        moved = {name: each for name, each in coefficients.items() if each.law != MEASURED}
        self.controllers = {name: Controller(each) for name, each in moved.items()}
        self.target = TargetTracker(target)
        watched = [name for name, each in moved.items() if each.advice and patience]
        self.watches = {name: ActuatorWatch(patience) for name in watched}
        self._verdicts: dict[str, str | None] = {}
        self.vocabulary: int | None = None
        self.entropy: float | None = None
        self.updated = False
        self.skipped = 0
        self._sum, self._count = 0.0, 0
        self._measured: dict[str, Measured] = {}

    def know_vocabulary(self, size: int) -> None:
        """Refuse a target above ``log size``, at once where its value is known, else with the first entropy.

        Raises:
            ConfigError: such a target.
        """
        self.vocabulary = size
        check_ceiling(self.target.settings, size, self.target.initial)

    def observe(self, entropy_sum: float, tokens: int) -> None:
        """Add one batch's summed token entropy (nats) and its number of response tokens."""
        self._sum, self._count = self._sum + entropy_sum, self._count + tokens

    def measured(self) -> float | None:
        """Token-mean entropy of what this step has shown so far, nats."""
        return self._sum / self._count if self._count else None

    def view(self) -> Control:
        """Entropy, target and next target, for what is measured from this very batch."""
        entropy = self.measured()
        if entropy is None or not plausible(entropy):
            return Control(entropy)
        return Control(entropy, self.target.at(entropy), self.target.at(entropy, 1))

    def take(self, name: str, measured: Measured) -> None:
        """Remember what a method measured from this step's batch."""
        self._measured[name] = measured

    def value(self, name: str) -> float | None:
        """A coefficient of the present step; None for a measured one before it was measured."""
        if name in self.controllers:
            return self.controllers[name].applied
        return self._measured[name].value if name in self._measured else None

    def end_step(self, step: int) -> dict[str, float]:
        """Close a global step: move every controller and return this step's metrics.

        The loop stands still while the actor is not updated (critic warm-up). A step whose entropy is missing or not
        plausible moves only the coefficients that follow no entropy.
        """
        entropy = self.entropy = self.measured()
        metrics = {} if entropy is None or not math.isfinite(entropy) else {"entropo/entropy/token_mean": entropy}
        metrics |= self._used()
        if self.updated:
            metrics |= self._move(step, entropy)
        self._sum, self._count, self.updated, self._measured = 0.0, 0, False, {}
        return metrics

    def _used(self) -> dict[str, float]:
        """The coefficients of this step, and which of the measured ones a bound holds back."""
        values = {f"entropo/{name}": controller.applied for name, controller in self.controllers.items()}
        for name, measured in self._measured.items():
            values |= {f"entropo/{name}": measured.value, f"entropo/{name}_at_bound": float(measured.at_bound)}
        return values

    def _move(self, step: int, entropy: float | None) -> dict[str, float]:
        follows = any(each.adapts for each in self.coefficients.values())
        if entropy is None or not plausible(entropy):
            return self._skip(step, entropy) if follows else self._next(math.nan, math.nan)
        if follows and self.target.initial is None:
            self._check_first(step, entropy)
        target = self.target.observe(entropy) if follows else math.nan
        self._watch(step, entropy, target)
        return ({"entropo/target": target} if follows else {}) | self._next(entropy, target)

    def _check_first(self, step: int, entropy: float) -> None:
        """A first entropy that makes no target."""
        if entropy <= 0 and self.target.settings.kind != "value":
            logger.warning("entropo_plugin: step %d: a first entropy of %g is no target. %s", step, entropy, FIRST)
        if self.vocabulary is not None:
            check_ceiling(self.target.settings, self.vocabulary, entropy)

    def _watch(self, step: int, entropy: float, target: float) -> None:
        """Say once when entropy has moved against a coefficient for long, or when one has stood at its bound."""
        for name, watch in self.watches.items():
            verdict = watch.observe(entropy, target, self.controllers[name].at_bound)
            if verdict and verdict != self._verdicts.get(name):
                advice = self.coefficients[name].advice
                logger.warning("entropo_plugin: step %d: %s", step, watch.describe(verdict, name, advice))
            self._verdicts[name] = verdict

    def _next(self, entropy: float, target: float, adaptive: bool = True) -> dict[str, float]:
        metrics = {}
        for name, controller in self.controllers.items():
            if adaptive or not controller.adapts:
                controller.step(entropy, target)
                metrics[f"entropo/{name}_next"] = controller.applied
                metrics[f"entropo/{name}_at_bound"] = float(controller.at_bound)
        return metrics

    def _skip(self, step: int, entropy: float | None) -> dict[str, float]:
        self.skipped += 1
        held = [f"{name} stays {each.applied:g}" for name, each in self.controllers.items() if each.adapts]
        words = "; ".join(held) or "nothing is steered in it"
        logger.warning("entropo_plugin: step %d has no usable entropy (%s); %s.", step, entropy, words)
        return self._next(math.nan, math.nan, adaptive=False) | {"entropo/skipped": float(self.skipped)}

    def state_dict(self) -> dict[str, Any]:
        """State as plain JSON values."""
        return {
            "coefficients": {name: controller.state_dict() for name, controller in self.controllers.items()},
            "target": self.target.state_dict(),
            "skipped": self.skipped,
            "watches": {name: watch.state_dict() for name, watch in self.watches.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off.

        Raises:
            KeyError, TypeError, ValueError: the state is not of this form.
        """
        for name, controller in self.controllers.items():
            controller.load_state_dict(state["coefficients"][name])
        self.target.load_state_dict(state["target"])
        self.skipped = int(state["skipped"])
        for name, watch in self.watches.items():
            watch.load_state_dict(state["watches"][name])
