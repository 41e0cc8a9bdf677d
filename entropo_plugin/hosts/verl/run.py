"""The driver's state of one run: what was measured this step, the controller, and what the workers are told."""

from __future__ import annotations

import logging
import math
from typing import Any

from entropo_plugin import __version__
from entropo_plugin.config import ConfigError
from entropo_plugin.control import Move
from entropo_plugin.control.state import misfits
from entropo_plugin.fields import shown
from entropo_plugin.hosts.verl.coefficients import clip_high, controllers, ratio_bounds
from entropo_plugin.hosts.verl.metrics.idle import Idle
from entropo_plugin.hosts.verl.startup.plan import Plan
from entropo_plugin.monitor import ChangeTracker, RewardLaw

logger = logging.getLogger("entropo_plugin")

FORMAT = 1


class Run:
    """One per training, on the driver only; knows nothing of verl.

    A global step is: :meth:`observe` for each batch, :meth:`payload` before each actor update, :meth:`end_step` once.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.controllers = controllers(plan)
        self.changes, self.law = ChangeTracker(), RewardLaw()
        self.entropy: float | None = None
        self.updated = False
        self._warned: set[str] = set()
        self._idle = Idle(plan)
        self._sum, self._count = 0.0, 0
        self._pull: Move | None = None

    def observe(self, entropy_sum: float, tokens: int) -> None:
        """Add one batch's summed token entropy (nats) and its number of response tokens."""
        self._sum, self._count = self._sum + entropy_sum, self._count + tokens

    def measured(self) -> float | None:
        """Token-mean entropy of what this step has shown so far, nats."""
        return self._sum / self._count if self._count else None

    def coefficient(self, name: str) -> float:
        """A coefficient of the current step, by the name of its metric."""
        return self.controllers[name].coefficient

    def pull(self) -> float:
        """The model-based law's wanted entropy change: it acts in the step that it measures, once a step."""
        if self._pull is None:
            self._pull = self.controllers["pull"].step(self.measured())
        return self.coefficient("pull")

    def payload(self) -> dict[str, Any]:
        """What the worker's loss needs this step: the same plain values on every rank."""
        found: dict[str, Any] = {}
        settings = self.plan.settings
        if self.plan.shapes_in_loss:
            repo = settings.repo
            found |= {"zeta": self.coefficient("zeta"), "floor": repo.logp_floor, "center": repo.center}
        if self.plan.loss == "adapo":
            found["adapo"] = self._adapo()
        if self.plan.loss == "entropo_clip_cov":
            about = settings.clip_cov
            found[self.plan.loss] = {"ratio": self.coefficient("ratio"), "low": about.low, "high": about.high}
            found[self.plan.loss] |= {"clip_low": about.clip_low, "clip_high": about.clip_high}
        if self.plan.loss == "entropo_kl_cov":
            found[self.plan.loss] = {"ratio": self.coefficient("ratio")} | self._penalty()
        if self.plan.penalises:
            found["penalty"] = self._penalty()
        if "entropy_coeff" in self.controllers:
            found["entropy_coeff"] = self.coefficient("entropy_coeff")
        return found

    def _penalty(self) -> dict[str, Any]:
        return {"beta": self.coefficient("beta"), "penalty": self.plan.settings.kl_cov.penalty}

    def _adapo(self) -> dict[str, Any]:
        adapo = self.plan.settings.adapo
        high = clip_high(self.plan.settings, self.coefficient("clip_high"))
        bounds = ratio_bounds(adapo.ratio_min, adapo.ratio_max)
        return {"low": adapo.clip_low, "high": high, "dual": adapo.clip_ratio_c, "ratio_bounds": bounds}

    def end_step(self, step: int, predicted: float | None = None) -> dict[str, float]:
        """Close a global step: move the controller and return this step's metrics.

        Args:
            step: the global step.
            predicted: the predicted entropy change of this step's update, per unit of learning rate.

        The controller is frozen while the actor is not updated (critic warm-up), and skips a step whose entropy is
        missing or not finite.
        """
        entropy = self.measured()
        self.entropy = entropy
        metrics = {}
        if entropy is not None and math.isfinite(entropy):
            metrics["entropo/entropy/token_mean"] = entropy
        metrics |= self.changes.observe(step, entropy, predicted)
        for name in self.controllers:
            metrics |= self._controlled(name, entropy, step)
        self._sum, self._count, self.updated, self._pull = 0.0, 0, False, None
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

    def report_idle(self, metrics: dict[str, float]) -> None:
        """Warn of every method that has had no effect for ``entropo.idle_steps`` steps."""
        for sentence in self._idle.observe(metrics):
            logger.warning("entropo_plugin: %s", sentence)

    def _controlled(self, name: str, entropy: float | None, step: int) -> dict[str, float]:
        controller, used = self.controllers[name], self.coefficient(name)
        metrics = {f"entropo/{name}": used}
        if not self.updated:
            return metrics
        move = self._pull if name == "pull" else controller.step(entropy)
        if move is None:
            logger.warning(
                "entropo_plugin: step %d has no usable entropy (%s); %s stays %g.", step, entropy, name, used
            )
            return metrics | {"entropo/skipped": float(controller.skipped)}
        if math.isfinite(move.target):
            metrics["entropo/target"] = move.target
        metrics[f"entropo/{name}_at_bound"] = float(move.at_bound)
        return metrics if name == "pull" else metrics | {f"entropo/{name}_next": move.following}

    def state_dict(self, step: int) -> dict[str, Any]:
        """Everything that a resumed run needs, as JSON values."""
        return {
            "format": FORMAT,
            "version": __version__,
            "step": step,
            "estimator": self.plan.estimator,
            "loss": self.plan.loss,
            "controllers": {name: controller.state_dict() for name, controller in self.controllers.items()},
            "changes": self.changes.state_dict(),
            "law": self.law.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], source: str, step: int | None = None) -> None:
        """Continue from a saved state; everything is checked before anything is taken.

        Args:
            source: where the state comes from, for messages.
            step: the checkpoint's own global step, which the state must share; None where it is not known.

        Raises:
            ConfigError: the state was saved under another objective, law, format or step, or is damaged; names the key
                that accepts it.
        """
        differing = self._differences(state, step)
        if differing and self.plan.settings.resume == "strict":
            raise ConfigError(
                f"{source} does not fit this run: {'; '.join(differing)}. Restore those settings, or set "
                "entropo.resume=reset to start the controller anew from this checkpoint."
            )
        if differing:
            logger.warning("entropo_plugin: controller starts anew, %s: %s.", source, "; ".join(differing))
            return
        self._take(state)
        for name, controller in self.controllers.items():
            saved = state["controllers"][name]["coefficient"]
            if controller.coefficient != saved:
                logger.warning(
                    "entropo_plugin: %s saved %s=%g, beyond the bounds of this run; it continues at %g.",
                    source,
                    name,
                    saved,
                    controller.coefficient,
                )

    def _take(self, state: dict[str, Any]) -> None:
        for name, controller in self.controllers.items():
            controller.load_state_dict(state["controllers"][name])
        self.changes.load_state_dict(state["changes"])
        self.law.load_state_dict(state["law"])

    def _differences(self, state: dict[str, Any], step: int | None) -> list[str]:
        if state.get("format") != FORMAT:
            return [f"its format is {shown(state.get('format'))}, this version reads {FORMAT}"]
        pairs: dict[str, tuple[Any, Any]] = {
            "algorithm.adv_estimator": (state.get("estimator"), self.plan.estimator),
            "policy_loss.loss_mode": (state.get("loss"), self.plan.loss),
        }
        for name, controller in self.controllers.items():
            pairs[f"the law of {name}"] = (_law(state, name), controller.law)
        if step is not None:
            pairs["the global step"] = (state.get("step"), step)
        found = [f"{name} was {shown(old)}, is {new!r}" for name, (old, new) in pairs.items() if old != new]
        return found or misfits(state, Run(self.plan).state_dict(0)) or self._refused(state)

    def _refused(self, state: dict[str, Any]) -> list[str]:
        """What a run like this one does not take, although its form is right; empty when all is taken."""
        try:
            Run(self.plan)._take(state)
        except (KeyError, TypeError, ValueError) as error:
            return [f"it lacks or garbles {error}"]
        return []


def _law(state: dict[str, Any], name: str) -> Any:
    saved = state.get("controllers")
    each = saved.get(name) if isinstance(saved, dict) else None
    return each.get("law") if isinstance(each, dict) else None
