"""The entropy bonus: the host's own ``entropy_coeff``, moved once per global step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from entropo_plugin.control import OPEN_LOOP, Anneal, Coefficient, Gains, Options
from entropo_plugin.control.settings import check_annealing, check_end, check_order
from entropo_plugin.fields import ConfigError, group, key
from entropo_plugin.methods.base import Method
from entropo_plugin.methods.registry import register

PATH = "entropo.entropy_coeff"
SOURCE = "ours; skywork: TRL"
# Which laws read which settings; null is additive.
STEPWISE, BOUNDED = "law=null|additive|skywork", "law=null|additive|skywork|multiplicative|pi"


@dataclass(frozen=True)
class EntropyCoeff:
    """verl's entropy bonus, `actor_rollout_ref.actor.entropy_coeff`, moved once per global step."""

    law: str | None = key(
        None,
        "null: additive, where the method is asked for by name; additive: one `delta` up below the target, one down "
        "above it; skywork: additive, but acting only after a step at or below the target; fixed: `initial` throughout",
        choices=("fixed", "annealed", "additive", "multiplicative", "pi", "skywork"),
        optional=True,
        source="ours; skywork: Skywork-OR1, arXiv 2505.22312",
    )
    initial: float | None = key(
        None,
        "coefficient of the first step; null: actor_rollout_ref.actor.entropy_coeff (TRL: entropy_coef)",
        low=0.0,
        high=10.0,
        optional=True,
    )
    low: float = key(0.0, "smallest coefficient", low=0.0, high=10.0, when=BOUNDED)
    high: float | None = key(
        None,
        "largest coefficient; null: 0.05, and 1 with law=skywork",
        low=0.0,
        high=10.0,
        optional=True,
        source=SOURCE,
        when=BOUNDED,
    )
    delta: float | None = key(
        None,
        "law=additive, skywork: one step's change; null: 0.001, and 0.005 with law=skywork",
        low=0.0,
        high=10.0,
        optional=True,
        source=SOURCE,
        when=STEPWISE,
    )
    factor: float = key(1.1, "law=multiplicative: one step's factor", low=1.0, high=10.0, when="law=multiplicative")
    pi: Gains = group(Gains, when="law=pi")
    anneal: Anneal = group(Anneal, when="law=annealed")


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _high(own: EntropyCoeff) -> float:
    return _or(own.high, 1.0 if own.law == "skywork" else 0.05)


@register
class EntropyBonus(Method):
    """``loss - c mean(H)`` with a coefficient c that follows the entropy or a schedule."""

    name, title, node, settings_type = "entropy_bonus", "entropy bonus", "entropy_coeff", EntropyCoeff

    @classmethod
    def switched_on(cls, settings: Any) -> str:
        law = settings.entropy_coeff.law
        return "" if law is None else f"{PATH}.law={law}"

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        own = settings.entropy_coeff
        check_annealing(PATH, own.law, own.anneal)
        check_order(f"{PATH}.low", own.low, f"{PATH}.high", _high(own))
        check_end(f"{PATH}.anneal.end", own.anneal.end, 10)

    def needs(self) -> frozenset[str]:
        return frozenset({"current_entropy"})

    @property
    def own_target(self) -> float | None:  # type: ignore[override]
        """Skywork-OR1's, with its law."""
        return 0.2 if self.law == "skywork" else None

    @property
    def law(self) -> str:
        """Its law: whoever asks for it by name wants it to move."""
        return self.settings.law or "additive"

    def check(self) -> Iterator[str]:
        own, first, high = self.settings, self._first, _high(self.settings)
        if self.law not in OPEN_LOOP and not own.low <= first <= high:
            raise ConfigError(
                f"{PATH} starts at {first}, outside [{own.low}, {high}]. Set {PATH}.initial, or move its low and high."
            )
        if self.law == "multiplicative" and first == 0:
            raise ConfigError(f"{PATH}.law=multiplicative cannot leave 0. Set {PATH}.initial above 0.")
        yield from ()

    @property
    def _first(self) -> float:
        initial = self.settings.initial
        return self.host.entropy_coeff if initial is None else float(initial)

    def coefficients(self) -> dict[str, Coefficient]:
        own = self.settings
        delta = _or(own.delta, 0.005 if self.law == "skywork" else 0.001)
        options = Options(factor=own.factor, delta=delta, signed=False, gains=own.pi, anneal=own.anneal)
        bounds = self._first, own.low, _high(own)
        return {
            "entropy_coeff": Coefficient("the entropy bonus", self.law, *bounds, f"{PATH}.high", options, nothing=0.0)
        }

    def overrides(self, c: Mapping[str, float]) -> dict[str, float]:
        return {"entropy_coeff": c["entropy_coeff"]}
