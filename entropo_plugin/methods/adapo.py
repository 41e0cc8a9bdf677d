"""ADAPO: an asymmetric clip whose upper bound follows the entropy (arXiv 2603.11682)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.control import Anneal, Coefficient, Gains, Options
from entropo_plugin.control.settings import check_annealing, check_end, check_order
from entropo_plugin.fields import ConfigError, group, key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import adapo, high_from_offset

# Which laws read which settings.
OFFSET, BOUNDED, NOT_OFFSET = "law=additive", "law=multiplicative|pi", "law=multiplicative|pi|annealed|fixed"


@dataclass(frozen=True)
class ClipHigh:
    """ADAPO's upper clip, `1 + clip_high`, and the law that moves it, once per global step."""

    law: str = key(
        "multiplicative",
        "how clip_high follows the entropy; the paper's step is unpublished",
        choices=("multiplicative", "additive", "pi", "annealed", "fixed"),
        source="ours, after arXiv 2603.11682; additive: MAI-Thinking-1",
    )
    initial: float = key(
        0.28, "clip_high of the first step", low=0.0, high=100.0, source="DAPO, arXiv 2503.14476", when=NOT_OFFSET
    )
    low: float = key(
        0.05, "smallest clip_high; below clip_low it pushes entropy down", low=0.0, high=100.0, when=BOUNDED
    )
    high: float = key(5.0, "largest clip_high", low=0.0, high=100.0, when=BOUNDED)
    factor: float = key(1.1, "law=multiplicative: one step's factor", low=1.0, high=10.0, when="law=multiplicative")
    delta: float = key(
        0.25,
        "law=additive: one step's change of the offset",
        low=0.0,
        high=10.0,
        source="MAI-Thinking-1",
        when=OFFSET,
    )
    offset: float = key(
        0.0,
        "law=additive: first k of the ratio's upper bound 1 / (1 - clip_low) + k, in place of `initial`",
        low=0.0,
        high=100.0,
        source="MAI-Thinking-1",
        when=OFFSET,
    )
    offset_max: float = key(2.5, "law=additive: largest k", low=0.0, high=100.0, source="MAI-Thinking-1", when=OFFSET)
    pi: Gains = group(Gains, when="law=pi")
    anneal: Anneal = group(Anneal, when="law=annealed")


@dataclass(frozen=True)
class Adapo:
    """ADAPO: asymmetric clipping whose upper bound adapts (arXiv 2603.11682)."""

    clip_low: float = key(
        0.2, "lower clip of the ratio, 1 - clip_low", low=0.0, high=0.99, source="DAPO, arXiv 2503.14476"
    )
    clip_high: ClipHigh = group(ClipHigh)
    clip_ratio_c: float = key(3.0, "dual clip for negative advantages", low=1.000001, high=1e6, source="verl")
    ratio_min: float | None = key(
        None,
        "outer hard clip of the ratio from below; null: none",
        low=0.0,
        high=1.0,
        optional=True,
        source="MAI-Thinking-1",
    )
    ratio_max: float | None = key(
        None,
        "outer hard clip of the ratio from above; null: none",
        low=1.0,
        high=1e9,
        optional=True,
        source="MAI-Thinking-1",
    )


ADVICE = (
    "A higher clip raises entropy where rare tokens are rewarded, and lowers it where likely ones are "
    "(docs/objectives/adapo.md). Take a method that measures the batch (+entropo=repo_neutral), or set "
    "entropo.adapo.clip_high.law=fixed."
)


@register
class AdapoMethod(Method):
    """DAPO's clip; its upper bound rises while entropy is below the target and falls above it."""

    name, title, node, settings_type = "adapo", "ADAPO", "adapo", Adapo
    loss_mode = "adapo"

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        own, high, path = settings.adapo, settings.adapo.clip_high, "entropo.adapo.clip_high"
        check_order(f"{path}.low", high.low, f"{path}.high", high.high)
        check_order(f"{path}.offset", high.offset, f"{path}.offset_max", high.offset_max)
        check_order("entropo.adapo.ratio_min", own.ratio_min, "entropo.adapo.ratio_max", own.ratio_max)
        check_annealing(path, high.law, high.anneal)
        check_end(f"{path}.anneal.end", high.anneal.end, 100)
        if high.law not in ("additive", "fixed", "annealed") and not high.low <= high.initial <= high.high:
            raise ConfigError(
                f"{path}.initial={high.initial} lies outside [{high.low}, {high.high}]. "
                f"Move it, or {path}.low and high."
            )

    @property
    def owns_loss(self) -> bool:
        return True

    def check(self) -> Iterator[str]:
        if self.host.updates == 1:
            yield (
                "ADAPO cannot act with one optimizer step per rollout batch, where the ratio is 1."
                f"{self.host.remedy('updates')}"
            )
        own, high = self.settings, self.settings.clip_high
        bounds = own.clip_low, high.initial, own.clip_ratio_c
        if high.law == "fixed" and bounds == self.host.clip and own.ratio_min is None and own.ratio_max is None:
            yield f"entropo.adapo.clip_high.law=fixed at {self.host.name}'s own clip: ADAPO is its loss as it is."

    def coefficients(self) -> dict[str, Coefficient]:
        high = self.settings.clip_high
        options = Options(factor=high.factor, delta=high.delta, signed=False, gains=high.pi, anneal=high.anneal)
        label, key = "ADAPO's upper clip", "entropo.adapo.clip_high.low and high"
        if high.law == "additive":
            key, applied = "entropo.adapo.clip_high.offset_max", self._from_offset
            bounds = high.offset, 0.0, high.offset_max
            return {"clip_high": Coefficient(label, high.law, *bounds, key, options, applied, advice=ADVICE)}
        bounds = high.initial, high.low, high.high
        return {"clip_high": Coefficient(label, high.law, *bounds, key, options, advice=ADVICE)}

    def _from_offset(self, offset: float) -> float:
        return high_from_offset(self.settings.clip_low, offset)

    def clip_bounds(self, c: Mapping[str, float]) -> dict[str, Any]:
        own = self.settings
        bounds = None
        if own.ratio_min is not None or own.ratio_max is not None:
            bounds = (own.ratio_min or 0.0, math.inf if own.ratio_max is None else own.ratio_max)
        return {"low": own.clip_low, "high": c["clip_high"], "dual": own.clip_ratio_c, "ratio_bounds": bounds}

    def loss(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        fields = tokens.log_prob, tokens.old_log_prob, tokens.advantage, tokens.mask
        return adapo(*fields, weight=tokens.weight, **self.clip_bounds(c))

    def idle(self) -> dict[str, str]:
        return {
            "entropo/clip/above_positive": "no token reached ADAPO's upper bound 1 + clip_high, so moving it does "
            f"nothing. Lower entropo.adapo.clip_high.initial.{self.host.remedy('updates')}"
        }
