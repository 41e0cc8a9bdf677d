"""Control laws: one coefficient and one measurement in, the next coefficient out.

Every law is called as ``law(coefficient, entropy, target, low, high)``; more coefficient means more entropy. A law that
remembers has ``state_dict`` and ``load_state_dict``; one with a ``gate`` says by it, 1 or 0, whether the coefficient
acts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from entropo_plugin.control.schedules import Annealed
from entropo_plugin.control.settings import Anneal, Gains

Law = Callable[[float, float, float, float, float], float]

# nats; entropies below it are taken as it where a logarithm is
SMALLEST = 1e-6


def doubling(zeta: float, entropy: float, target: float, low: float, high: float) -> float:
    """REPO's multiplicative law, once per step (arXiv 2603.11682, as SkyRL implements it).

    Towards more entropy, a positive zeta doubles up to ``high`` and a negative one halves, until below ``low`` it
    changes sign; towards less entropy the mirror image. It steers from both sides.

    Args:
        zeta: coefficient of the step that was measured.
        entropy: measured token-mean entropy, nats.
        target: wanted entropy, nats.
        low: smallest |zeta|.
        high: largest |zeta|.
    """
    if entropy == target:
        return zeta
    if entropy > target:
        return -doubling(-zeta, target, entropy, low, high) if zeta != 0 else -low
    if zeta >= 0:
        return min(high, 2 * zeta) if zeta > 0 else low
    return zeta / 2 if zeta / 2 <= -low else low


def fixed(zeta: float, entropy: float, target: float, low: float, high: float) -> float:
    """No control: the coefficient stays where it is."""
    return zeta


def multiplicative(
    coefficient: float, entropy: float, target: float, low: float, high: float, factor: float = 1.1
) -> float:
    """ADAPO's rule as we read it: ``clip(c * factor^sign(H* - H), low, high)`` (arXiv 2603.11682; the form is ours)."""
    return _clip(coefficient * factor ** _sign(target - entropy), low, high)


def additive(coefficient: float, entropy: float, target: float, low: float, high: float, delta: float = 0.25) -> float:
    """MAI-Thinking-1's rule: ``clip(c + delta * sign(H* - H), low, high)``."""
    return _clip(coefficient + delta * _sign(target - entropy), low, high)


class ProportionalIntegral:
    """``c = initial + high * (proportional * e + integral * sum(e))`` with ``e = log(H* / H)`` (ours).

    Anti-windup: an error that pushes a coefficient beyond its bound acts now but is not summed. The bounds are
    ``[-high, high]`` for a signed coefficient, else ``[low, high]``.
    """

    def __init__(self, initial: float, gains: Gains, signed: bool):
        self.initial, self.gains, self.signed, self.total = initial, gains, signed, 0.0

    def __call__(self, coefficient: float, entropy: float, target: float, low: float, high: float) -> float:
        """Coefficient of the next step; the arguments are those of every law."""
        error = math.log(max(target, SMALLEST) / max(entropy, SMALLEST))
        floor = -high if self.signed else low
        wanted = self._output(error, self.total + error, high)
        if not ((wanted > high and error > 0) or (wanted < floor and error < 0)):
            self.total += error
        return _clip(wanted, floor, high)

    def _output(self, error: float, total: float, high: float) -> float:
        return self.initial + high * (self.gains.proportional * error + self.gains.integral * total)

    def state_dict(self) -> dict[str, Any]:
        return {"initial": self.initial, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.initial, self.total = float(state["initial"]), float(state["total"])


class Gated:
    """Skywork-OR1's law of an entropy bonus (arXiv 2505.22312): ``delta`` up where ``H <= H*``, else down.

    The coefficient acts in the next step only where ``H <= H*``; before the first measurement the gate is shut.
    While it is shut the coefficient goes on moving.
    """

    def __init__(self, delta: float):
        self.delta, self.gate = delta, 0.0

    def __call__(self, coefficient: float, entropy: float, target: float, low: float, high: float) -> float:
        """Coefficient of the next step; the arguments are those of every law."""
        self.gate = float(entropy <= target)
        return _clip(coefficient + (self.delta if self.gate else -self.delta), low, high)

    def state_dict(self) -> dict[str, Any]:
        return {"gate": self.gate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.gate = float(state["gate"])


@dataclass(frozen=True)
class Options:
    """Constants of the laws beyond the bounds; each law reads its own."""

    factor: float = 1.1
    delta: float = 0.25
    signed: bool = True
    gains: Gains = Gains()
    anneal: Anneal = Anneal()


LAWS: dict[str, Callable[[float, Options], Law]] = {
    "doubling": lambda initial, options: doubling,
    "fixed": lambda initial, options: fixed,
    "multiplicative": lambda initial, options: partial(multiplicative, factor=options.factor),
    "additive": lambda initial, options: partial(additive, delta=options.delta),
    "skywork": lambda initial, options: Gated(options.delta),
    "pi": lambda initial, options: ProportionalIntegral(initial, options.gains, options.signed),
    "annealed": lambda initial, options: Annealed(initial, options.anneal),
}


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _clip(value: float, low: float, high: float) -> float:
    return min(high, max(low, value))
