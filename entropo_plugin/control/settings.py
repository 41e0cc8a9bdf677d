"""Settings that the control loop and the methods share: schedules, gains and the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

from entropo_plugin.fields import ConfigError, key

SCHEDULES = ("constant", "linear", "cosine", "power")
# Settings of a schedule are read while it moves.
MOVING, TARGET_MOVING = "kind=linear|cosine|power", "schedule=linear|cosine|power"


@dataclass(frozen=True)
class Gains:
    """Gains of the law `pi` on log(target / entropy), as shares of the coefficient's largest size."""

    proportional: float = key(15.0, "gain on this step's error", low=0.0, high=100.0)
    integral: float = key(0.5, "gain on the summed error", low=0.0, high=100.0)


@dataclass(frozen=True)
class Anneal:
    """Schedule of a coefficient from its first value to `end`; arXiv 2604.09676 names no schedule."""

    kind: str = key("constant", "form of the way from the first value to `end`", choices=SCHEDULES)
    end: float = key(0.0, "value at the end of the schedule", low=-100.0, high=100.0, when=MOVING)
    hold: int = key(
        25,
        "steps at the first value before it moves; at 8 updates a step 200, where arXiv 2505.22617 saw 73 % of entropy "
        "spent",
        unit="steps",
        low=0,
        high=10**7,
        source="arXiv 2505.22617",
        when=MOVING,
    )
    steps: int = key(
        1000, "steps to the last value; power: time constant", unit="steps", low=1, high=10**7, when=MOVING
    )
    power: float = key(1.0, "exponent of kind=power", low=1e-3, high=10.0, when="kind=power")


@dataclass(frozen=True)
class Target:
    """The entropy that the controllers steer to; a run has one."""

    kind: str = key(
        "auto",
        "initial: the first measured entropy, times `fraction`; value: `value`; auto: what the method's paper steers "
        "to, where it names a number, else initial",
        choices=("auto", "initial", "value"),
        source="arXiv 2603.11682",
    )
    value: float | None = key(
        None, "target for kind=value", unit="nats per token", low=0.0, high=20.0, optional=True, when="kind=value"
    )
    fraction: float = key(
        1.0, "share of the initial entropy for kind=initial", low=1e-3, high=10.0, when="kind=auto|initial"
    )
    schedule: str = key("constant", "how the target goes from `start` to its value", choices=SCHEDULES)
    start: float | None = key(
        None,
        "first target of a schedule; null: the first measured entropy",
        unit="nats per token",
        low=0.0,
        high=20.0,
        optional=True,
        when=TARGET_MOVING,
    )
    hold: int = key(0, "steps at `start` before the target moves", unit="steps", low=0, high=10**7, when=TARGET_MOVING)
    steps: int = key(
        100,
        "steps to the last value; power: time constant",
        unit="steps",
        low=1,
        high=10**7,
        when=TARGET_MOVING,
    )
    power: float = key(1.0, "exponent of schedule=power", low=1e-3, high=10.0, when="schedule=power")

    def in_words(self) -> str:
        """The target as the start-up line says it."""
        end = f"{self.value} nats" if self.kind == "value" else f"{self.fraction:g} x the initial entropy"
        return end if self.schedule == "constant" else f"{end}, {self.schedule} over {self.steps} steps"


def check_target(target: Target) -> None:
    """Refuse a target without its value.

    Raises:
        ConfigError: names the key and what to set.
    """
    if target.kind == "value" and target.value is None:
        raise ConfigError("entropo.target.kind=value needs entropo.target.value, in nats per token, in [0, 20].")


def check_ceiling(target: Target, vocabulary: int, initial: float | None = None) -> None:
    """Refuse a target that no policy over this vocabulary can have: one above ``log |V|``.

    Args:
        initial: the first measured entropy, nats; None before it is measured.

    Raises:
        ConfigError: names the key, its value and the ceiling.
    """
    ceiling = math.log(vocabulary)
    share = None if initial is None or target.kind == "value" else target.fraction * initial
    asked = {
        f"value={target.value}": target.value,
        f"start={target.start}": target.start,
        f"fraction={target.fraction:g} of the first entropy": share,
    }
    for words, nats in asked.items():
        if nats is not None and nats > ceiling:
            raise ConfigError(
                f"entropo.target.{words}: {nats:.4g} nats per token are out of reach, because a policy over "
                f"{vocabulary} tokens has at most log {vocabulary} = {ceiling:.4g}. Set a smaller one."
            )


def check_order(low_path: str, low: float | None, high_path: str, high: float | None) -> None:
    """Refuse a lower bound above its upper bound."""
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{low_path}={low} exceeds {high_path}={high}. Swap them.")


def check_annealing(path: str, law: str | None, anneal: Anneal) -> None:
    """The law that follows a schedule needs one."""
    if law == "annealed" and anneal.kind == "constant":
        raise ConfigError(f"{path}.law=annealed needs {path}.anneal.kind, one of linear | cosine | power.")


def check_end(path: str, end: float, high: float) -> None:
    """A schedule may end where its coefficient may start."""
    if not 0 <= end <= high:
        raise ConfigError(f"{path}={end}: out of range. Set {path} to a number in [0, {high}].")
