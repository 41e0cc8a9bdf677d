"""A coefficient as a method declares it: its law, its bounds, and what people are told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from entropo_plugin.control.laws import Options

OPEN_LOOP = ("fixed", "annealed")
STEPPED = ("multiplicative", "additive", "skywork", "pi")
# A coefficient that its method measures from the very batch that it acts on; no controller moves it.
MEASURED = "measured"


@dataclass(frozen=True)
class Coefficient:
    """One number that a method acts by.

    Attributes:
        label: what it is, for the report and the start-up line.
        law: a law of :data:`entropo_plugin.control.laws.LAWS`, or ``measured``.
        initial: value of the first step.
        low, high: smallest and largest size.
        key: the setting that moves its bound.
        options: constants of the law.
        applied: the value that acts, from the value that the law moves; None: the same.
        follows: whether a measured coefficient steers to the target.
        advice: what to do when entropy moves against it for long; empty: it is not watched.
        nothing: the value at which its method does nothing; None: there is none.
    """

    label: str
    law: str = "fixed"
    initial: float = 0.0
    low: float = 0.0
    high: float = 0.0
    key: str = ""
    options: Options = Options()
    applied: Callable[[float], float] | None = None
    follows: bool = False
    advice: str = ""
    nothing: float | None = None

    @property
    def adapts(self) -> bool:
        """Whether it follows the measured entropy."""
        return self.follows if self.law == MEASURED else self.law not in OPEN_LOOP

    def in_words(self, name: str) -> str:
        """Name, law and bounds as the start-up line says them."""
        if self.law == "fixed":
            return f"{name} {self.initial:g}"
        if self.law == MEASURED:
            return f"{name} from each batch"
        if self.law == "annealed":
            way = self.options.anneal
            return f"{name} from {self.initial:g} to {way.end:g}, {way.kind} over {way.steps} steps"
        low = -self.high if self.options.signed else self.low
        return f"{name} by {self.law} within [{low:g}, {self.high:g}]"

    def stays(self) -> str:
        """Why it never leaves its first value; empty where it moves."""
        options = self.options
        if self.law == "annealed":
            return "its schedule ends where it starts" if options.anneal.end == self.initial else ""
        if not self.adapts:
            return "nothing moves it" if self.law != MEASURED else ""
        if self.law == "multiplicative" and self.initial == 0:
            return "a factor cannot leave 0"
        if self.law in STEPPED and not options.signed and self.low == self.high:
            return "its bounds are equal"
        step = {
            "multiplicative": options.factor - 1,
            "additive": options.delta,
            "skywork": options.delta,
            "pi": options.gains.proportional + options.gains.integral,
        }
        return "its step is 0" if step.get(self.law) == 0 else ""


@dataclass(frozen=True)
class Measured:
    """This batch's value of a coefficient, and whether a bound holds it back."""

    value: float
    at_bound: bool = False


@dataclass(frozen=True)
class Control:
    """What the loop knows while a batch is shaped.

    Attributes:
        entropy: token-mean entropy of this step so far, nats; None where it is not measured.
        target: the entropy wanted of this step, nats.
        following: the entropy wanted of the next step, nats.
    """

    entropy: float | None = None
    target: float | None = None
    following: float | None = None
