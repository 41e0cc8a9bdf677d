"""The driver's state of one run: what was measured this step, the controller, and what the workers are told."""

from __future__ import annotations

import logging
import math
from typing import Any

from entropo_plugin import __version__
from entropo_plugin.config import ConfigError
from entropo_plugin.control import Controller
from entropo_plugin.host.plan import Plan
from entropo_plugin.monitor import ChangeTracker, RewardLaw

logger = logging.getLogger("entropo_plugin")

FORMAT = 1


class Run:
    """One per training, on the driver only; knows nothing of verl.

    A global step is: :meth:`observe` for each batch, :meth:`payload` before each actor update, :meth:`end_step` once.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        zeta = plan.settings.repo.zeta
        self.controller = Controller(zeta.law, zeta.initial, plan.low, plan.high, plan.settings.target)
        self.changes, self.law = ChangeTracker(), RewardLaw()
        self.entropy: float | None = None
        self._warned: set[str] = set()
        self.updated = False
        self._sum, self._count = 0.0, 0

    def observe(self, entropy_sum: float, tokens: int) -> None:
        """Add one batch's summed token entropy (nats) and its number of response tokens."""
        self._sum, self._count = self._sum + entropy_sum, self._count + tokens

    @property
    def zeta(self) -> float:
        """Coefficient of the current step."""
        return self.controller.coefficient

    def payload(self) -> dict[str, Any]:
        """What the worker's loss needs this step: the same plain values on every rank."""
        if not self.plan.shapes_in_loss:
            return {}
        repo = self.plan.settings.repo
        return {"zeta": self.zeta, "floor": repo.logp_floor, "center": repo.center}

    def end_step(self, step: int, predicted: float | None = None) -> dict[str, float]:
        """Close a global step: move the controller and return this step's metrics.

        Args:
            step: the global step.
            predicted: the predicted entropy change of this step's update, per unit of learning rate.

        The controller is frozen while the actor is not updated (critic warm-up), and skips a step whose entropy is
        missing or not finite.
        """
        entropy = self._sum / self._count if self._count else None
        self.entropy = entropy
        metrics = {} if entropy is None else {"entropo/entropy/token_mean": entropy}
        metrics |= self.changes.observe(step, entropy, predicted)
        if self.plan.estimator is not None:
            metrics |= self._controlled(entropy, step)
        self._sum, self._count, self.updated = 0.0, 0, False
        return metrics

    def observe_score(self, score: float | None) -> dict[str, float]:
        """Fit the law R = -a exp(H) + b with this step's validation score, if there is one."""
        if score is None:
            return {}
        self.law.add(self.entropy, score)
        return self.law.metrics()

    def warn_once(self, text: str | None) -> None:
        """Say a warning the first time only; its numbers change from step to step, its key does not."""
        if text is not None and "precision" not in self._warned:
            self._warned.add("precision")
            logger.warning("entropo_plugin: %s", text)

    def _controlled(self, entropy: float | None, step: int) -> dict[str, float]:
        metrics = {"entropo/zeta": self.zeta}
        if not self.updated:
            return metrics
        move = self.controller.step(entropy)
        if move is None:
            logger.warning(
                "entropo_plugin: step %d has no finite entropy (%s); zeta stays %g.", step, entropy, self.zeta
            )
            return metrics | {"entropo/skipped": float(self.controller.skipped)}
        return metrics | {
            "entropo/target": move.target,
            "entropo/zeta_next": move.following,
            "entropo/zeta_at_bound": float(move.at_bound),
        }

    def state_dict(self, step: int) -> dict[str, Any]:
        """Everything that a resumed run needs, as JSON values."""
        return {
            "format": FORMAT,
            "version": __version__,
            "step": step,
            "estimator": self.plan.estimator,
            "zeta": self.controller.state_dict(),
            "changes": self.changes.state_dict(),
            "law": self.law.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], source: str) -> None:
        """Continue from a saved state.

        Raises:
            ConfigError: the state was saved under another objective, law or format; names the key that accepts it.
        """
        differing = self._differences(state)
        if differing and self.plan.settings.resume == "strict":
            raise ConfigError(
                f"{source} does not fit this run: {'; '.join(differing)}. Restore those settings, or set "
                "entropo.resume=reset to start the controller anew from this checkpoint."
            )
        if differing:
            logger.warning("entropo_plugin: controller starts anew, %s: %s.", source, "; ".join(differing))
            return
        self.controller.load_state_dict(state["zeta"])
        self.changes.load_state_dict(state["changes"])
        self.law.load_state_dict(state["law"])

    def _differences(self, state: dict[str, Any]) -> list[str]:
        if state.get("format") != FORMAT:
            return [f"its format is {state.get('format')!r}, this version reads {FORMAT}"]
        pairs = {
            "algorithm.adv_estimator": (state.get("estimator"), self.plan.estimator),
            "entropo.repo.zeta.law": (state.get("zeta", {}).get("law"), self.controller.law),
        }
        found = [f"{name} was {old!r}, is {new!r}" for name, (old, new) in pairs.items() if old != new]
        return found or _damage(state)


def _damage(state: dict[str, Any]) -> list[str]:
    """A state that cannot be continued from, said in words; empty when it can."""
    try:
        numbers = [state["zeta"]["coefficient"], state["zeta"]["steps"], state["zeta"]["skipped"]]
        ChangeTracker().load_state_dict(state["changes"])
        RewardLaw().load_state_dict(state["law"])
        initial = state["zeta"]["target"]["initial"]
        numbers += [] if initial is None else [initial]
    except (KeyError, TypeError, ValueError) as error:
        return [f"it lacks or garbles {error}"]
    good = all(isinstance(n, float | int) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
    return [] if good else [f"it holds values that are not finite numbers: {numbers}"]
