"""STARE: below its target, the most surprising tokens of right answers weigh more (arXiv 2606.19236)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from entropo_plugin.control import MEASURED, Coefficient, Control, Measured, Options
from entropo_plugin.control.targets import plausible
from entropo_plugin.fields import ConfigError, key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import ResponseKeys, select_top

PATH, CODE, ADDITIVE = "entropo.stare", "hp-luo/STARE", "law=additive"


@dataclass(frozen=True)
class Stare:
    """STARE: which tokens are weighed, and how much."""

    share: float = key(0.1, "share of the tokens of one sign that is weighed", low=0.0, high=1.0, source=CODE)
    weight: float = key(1.1, "weight of surprising tokens with A > 0", low=1.0, high=10.0, source=CODE)
    two_sided: bool = key(False, "weigh the surprising tokens with A < 0 too (the paper's C2)", source=CODE)
    negative_weight: float = key(0.9, "two_sided: their weight", low=0.0, high=1.0, source=CODE, when="two_sided")
    law: str = key(
        "fixed",
        "fixed: the weights stay; additive: after every step they move by `delta`, further from 1 below the target",
        choices=("fixed", "additive"),
        source=CODE,
    )
    delta: float = key(0.01, "law=additive: one step's change", low=0.0, high=1.0, source=CODE, when=ADDITIVE)
    weight_max: float = key(1.5, "law=additive: largest weight", low=1.0, high=10.0, source=CODE, when=ADDITIVE)
    negative_weight_min: float = key(
        0.5,
        "law=additive: smallest negative_weight",
        low=0.0,
        high=1.0,
        source=CODE,
        when=f"{ADDITIVE} and two_sided",
    )


@register
class StareMethod(Method):
    """``H < H*``: ``A <- W A`` on the share of highest surprisal -log p_old among A > 0, over the whole batch."""

    name, title, node, settings_type = "stare", "STARE", "stare", Stare
    shapes, own_target = "driver", 0.3

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        own = settings.stare
        if own.law == "additive" and own.weight > own.weight_max:
            raise ConfigError(f"{PATH}.weight={own.weight} exceeds {PATH}.weight_max={own.weight_max}. Swap them.")
        if own.law == "additive" and own.two_sided and own.negative_weight < own.negative_weight_min:
            raise ConfigError(
                f"{PATH}.negative_weight={own.negative_weight} lies below {PATH}.negative_weight_min="
                f"{own.negative_weight_min}. Swap them."
            )

    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def check(self) -> Iterator[str]:
        own = self.settings
        weights = [each for name, each in self.coefficients().items() if name != "stare_gate"]
        if own.share == 0 or all(each.stays() and each.initial == 1 for each in weights):
            yield f"{PATH}: a share of 0, or weights that stay 1: STARE leaves every advantage as it is."

    def coefficients(self) -> dict[str, Coefficient]:
        own = self.settings
        up, down = Options(delta=own.delta, signed=False), Options(delta=-own.delta, signed=False)
        weight = own.weight, 1.0, own.weight_max, f"{PATH}.weight_max"
        negative = own.negative_weight, own.negative_weight_min, 1.0, f"{PATH}.negative_weight_min"
        made = {"stare_weight": Coefficient("STARE's weight on A > 0", own.law, *weight, up)}
        if own.two_sided:
            made["stare_negative_weight"] = Coefficient("STARE's weight on A < 0", own.law, *negative, down)
        gate = Coefficient("STARE's gate: 1 below the target", MEASURED, high=1.0, follows=True)
        return made | {"stare_gate": gate}

    def measure(self, tokens: Tokens, control: Control, c: Mapping[str, float]) -> dict[str, Measured]:
        if control.entropy is None or control.target is None or not plausible(control.entropy):
            return {"stare_gate": Measured(0.0)}
        return {"stare_gate": Measured(float(control.entropy < control.target))}

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        if c["stare_gate"] == 0:
            return tokens.advantage
        weight = torch.ones_like(tokens.advantage)
        weight[self._surprising(tokens, tokens.advantage > 0)] = c["stare_weight"]
        if self.settings.two_sided:
            weight[self._surprising(tokens, tokens.advantage < 0)] = c["stare_negative_weight"]
        return weight * tokens.advantage

    def _surprising(self, tokens: Tokens, sign: Tensor) -> Tensor:
        """The ``floor(share * n)`` of highest surprisal among the n marked response tokens; ties by a seeded order."""
        order = ResponseKeys(tokens.keys, 0, tokens.step)
        surprisal = -tokens.log_prob.double()
        surprisal = torch.where(surprisal.isfinite(), surprisal, torch.full_like(surprisal, torch.nan))
        return select_top(surprisal, tokens.mask.bool() & sign, self.settings.share, order)

    def idle(self) -> dict[str, str]:
        return {
            "entropo/stare_gate": "the entropy stood at or above the target, so STARE's gate was shut and no token was "
            "weighed. Raise entropo.target.value."
        }

    def describe(self) -> str:
        return f"{self.title} on {self.host.estimator} advantages"
