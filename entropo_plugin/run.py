"""One training, on the driver: its methods, the control loop over them, and what survives a restart. No host."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from entropo_plugin import __version__
from entropo_plugin.control import ControlLoop
from entropo_plugin.control.state import misfits
from entropo_plugin.fields import ConfigError, shown
from entropo_plugin.methods.active import coefficients, stems, target_of
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import estimators, losses
from entropo_plugin.monitor import ChangeTracker, RewardLaw

logger = logging.getLogger("entropo_plugin")

FORMAT = 2


class Run:
    """The state of one training.

    Args:
        methods: what runs, from :func:`entropo_plugin.methods.active.activate`.
        settings: all parsed settings.
    """

    def __init__(self, methods: Sequence[Method], settings: Any):
        self.methods, self.settings = tuple(methods), settings
        self.loop = ControlLoop(coefficients(methods), target_of(settings, methods), settings.idle_steps)
        self.changes, self.law = ChangeTracker(), RewardLaw(controlled=bool(self.methods))
        self._stems = stems(methods)
        self._warned: set[str] = set()

    def coefficients(self) -> dict[str, dict[str, float]]:
        """What acts in the present step, by method and coefficient: the same plain values on every rank."""
        acting: dict[str, dict[str, float]] = {method.name: {} for method in self.methods}
        for (method, name), stem in self._stems.items():
            value = self.loop.value(stem)
            if value is not None:
                acting[method][name] = value
        return acting

    def measure(self, tokens: Tokens) -> None:
        """Take the coefficients that come from this very batch, in the methods' order."""
        for method in self.methods:
            own = method.measure(tokens, self.loop.view(), self.coefficients()[method.name])
            for name, measured in own.items():
                self.loop.take(self._stems[method.name, name], measured)

    def end_step(self, step: int, predicted: float | None = None) -> dict[str, float]:
        """Close a global step: move the controllers and return this step's metrics.

        Args:
            step: the global step.
            predicted: the predicted entropy change of this step's update, per unit of learning rate.
        """
        entropy = self.loop.measured()
        return self.changes.observe(step, entropy, predicted) | self.loop.end_step(step)

    def observe_score(self, score: float | None) -> dict[str, float]:
        """Fit the law R = -a exp(H) + b with this step's validation score, if there is one."""
        if score is None:
            return {}
        self.law.add(self.loop.entropy, score)
        return self.law.metrics()

    def warn_once(self, name: str, text: str | None) -> None:
        """Say a warning the first time only; its numbers change from step to step, its name does not."""
        if text is not None and name not in self._warned:
            self._warned.add(name)
            logger.warning("entropo_plugin: %s", text)

    def state_dict(self, step: int) -> dict[str, Any]:
        """Everything that a resumed run needs, as JSON values."""
        return {
            "format": FORMAT,
            "version": __version__,
            "step": step,
            "methods": {method.name: method.state_dict() for method in self.methods},
            **self.loop.state_dict(),
            "changes": self.changes.state_dict(),
            "law": self.law.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], source: str, step: int | None = None) -> None:
        """Continue from a saved state; everything is checked before anything is taken.

        Args:
            source: where the state comes from, for messages.
            step: the checkpoint's own global step, which the state must share; None where it is not known.

        Raises:
            ConfigError: the state was saved under other methods, another law, format or step, or is damaged; names the
                key that accepts it.
        """
        state = _upgraded(state, self.methods, self._fresh().state_dict(0))
        differing = self._differences(state, step)
        if differing and self.settings.resume == "strict":
            raise ConfigError(
                f"{source} does not fit this run: {'; '.join(differing)}. Restore those settings, or set "
                "entropo.resume=reset to restart the controllers at this checkpoint."
            )
        if differing:
            logger.warning("entropo_plugin: controllers start over, %s: %s.", source, "; ".join(differing))
            return
        self._take(state)
        self._say_moved(state, source)

    def _say_moved(self, state: dict[str, Any], source: str) -> None:
        for name, controller in self.loop.controllers.items():
            saved = state["coefficients"][name]["value"]
            if controller.value != saved:
                logger.warning(
                    "entropo_plugin: %s saved %s=%g, beyond the bounds of this run; it continues at %g.",
                    source,
                    name,
                    saved,
                    controller.value,
                )

    def _take(self, state: dict[str, Any]) -> None:
        self.loop.load_state_dict(state)
        for method in self.methods:
            method.load_state_dict(state["methods"][method.name])
        self.changes.load_state_dict(state["changes"])
        self.law.load_state_dict(state["law"])

    def _fresh(self) -> Run:
        """A run like this one that has seen nothing: its methods are new, their memory empty."""
        return Run([type(method)(self.settings, method.host) for method in self.methods], self.settings)

    def _differences(self, state: dict[str, Any], step: int | None) -> list[str]:
        if state.get("format") != FORMAT:
            damaged = " and it is damaged" if state.get("format") == 1 else f", this version reads 1 and {FORMAT}"
            return [f"its format is {shown(state.get('format'))}{damaged}"]
        differing = _other_methods(state, self.methods)
        for name, controller in self.loop.controllers.items():
            law = _law(state, name)
            differing += [] if law == controller.law else [_was(f"the law of {name}", law, controller.law)]
        if step is not None and state.get("step") != step:
            differing.append(_was("the global step", state.get("step"), step))
        return differing or misfits(state, self._fresh().state_dict(0)) or self._refused(state)

    def _refused(self, state: dict[str, Any]) -> list[str]:
        """What a run like this one does not take, although its form is right; empty when all is taken."""
        try:
            self._fresh()._take(state)
        except (KeyError, TypeError, ValueError) as error:
            return [f"it lacks or garbles {error}"]
        return []


def _was(what: str, old: Any, new: Any) -> str:
    return f"{what} was {shown(old)}, is {new!r}"


def _other_methods(state: dict[str, Any], methods: Sequence[Method]) -> list[str]:
    saved, own = state.get("methods"), sorted(method.name for method in methods)
    names = sorted(map(str, saved)) if isinstance(saved, dict) else saved
    if names != own:
        return [_was("entropo.methods", names, own)]
    for where in ("driver", "worker"):
        ordered = [method.name for method in methods if method.shapes == where]
        before = [name for name in saved or () if name in ordered]
        if before != ordered:
            return [_was("the order in which advantages are shaped", before, ordered)]
    return []


def _law(state: dict[str, Any], name: str) -> Any:
    saved = state.get("coefficients")
    own = saved.get(name) if isinstance(saved, dict) else None
    return own.get("law") if isinstance(own, dict) else None


def _upgraded(state: dict[str, Any], methods: Sequence[Method], fresh: dict[str, Any]) -> dict[str, Any]:
    """A state of format 1, which named doors in place of methods and had a target for every controller, as format 2.

    One that has another form than format 1 is left as it is, and refused for its format.
    """
    try:
        return _from_format_1(state, methods, fresh) if state.get("format") == 1 else state
    except (AttributeError, KeyError, TypeError):
        return state


def _from_format_1(state: dict[str, Any], methods: Sequence[Method], fresh: dict[str, Any]) -> dict[str, Any]:
    controllers = state["controllers"]
    moved = {name: controller for name, controller in controllers.items() if controller["law"] != "neutral"}
    steered = [each["target"] for each in controllers.values() if each["target"]["initial"] is not None]
    return {
        "format": FORMAT,
        "version": state["version"],
        "step": state["step"],
        "methods": _methods_of_format_1(state, methods),
        "coefficients": {name: _coefficient(controller) for name, controller in moved.items()},
        "target": {"initial": None, "steps": 0} | (steered[0] if steered else {}),
        "skipped": next((controller["skipped"] for controller in controllers.values()), 0),
        "watches": fresh["watches"],
        # they begin anew with this format, in which they hold other numbers
        "changes": fresh["changes"],
        "law": fresh["law"],
    }


def _methods_of_format_1(state: dict[str, Any], methods: Sequence[Method]) -> dict[str, Any]:
    """A method behind a door is known by the door's name, one on top of another's by its coefficients."""
    doors = estimators() | losses()
    names = [door for door in (state["estimator"], state["loss"]) if door is not None]
    names = [doors[door].name if door in doors else door for door in names]
    names += [each.name for each in methods if not (each.estimator or each.owns_loss) and _had(each, state)]
    fresh = {method.name: method.state_dict() for method in methods}
    return {name: fresh.get(name, {}) for name in names}


def _had(method: Method, state: dict[str, Any]) -> bool:
    own = method.coefficients()
    return bool(own) and own.keys() <= state["controllers"].keys()


def _coefficient(controller: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in controller.items() if name in ("law", "steps", "memory")}
    return kept | {"value": controller["coefficient"]}
