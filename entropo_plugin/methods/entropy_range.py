"""Entrocraft: above its range only right answers push, below it only wrong ones (arXiv 2604.26326)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.control import MEASURED, Anneal, Coefficient, Control, Measured, Options
from entropo_plugin.control.settings import check_order
from entropo_plugin.control.targets import plausible
from entropo_plugin.fields import key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register

PATH = "entropo.entropy_range"
CODE = "lblaoke/entrocraft"
MOVING = "schedule=linear|cosine"


@dataclass(frozen=True)
class EntropyRange:
    """Entrocraft's range of the batch's token-mean entropy, and its way from the first step to the last."""

    low: float = key(0.6, "lower end of the range, first step", unit="nats", low=0.0, high=20.0, source=CODE)
    high: float = key(0.7, "upper end of the range, first step", unit="nats", low=0.0, high=20.0, source=CODE)
    low_end: float = key(
        0.4, "lower end after `steps`; arXiv 2604.26326's best: 0.1", unit="nats", low=0.0, high=20.0, when=MOVING
    )
    high_end: float = key(
        0.5, "upper end after `steps`; arXiv 2604.26326's best: 0.2", unit="nats", low=0.0, high=20.0, when=MOVING
    )
    schedule: str = key(
        "linear",
        "how the range goes to its end; constant: it stays",
        choices=("constant", "linear", "cosine"),
        source="arXiv 2604.26326",
    )
    hold: int = key(0, "steps before the range moves", unit="steps", low=0, high=10**7, when=MOVING)
    steps: int = key(
        300, "steps to the last range; the paper: the whole training", unit="steps", low=1, high=10**7, when=MOVING
    )


@register
class EntropyRangeMethod(Method):
    """``H > high: A <- max(A, 0)``; ``H < low: A <- min(A, 0)``; with the H of the very batch."""

    name, title, node, settings_type = "entropy_range", "Entrocraft", "entropy_range", EntropyRange
    shapes = "driver"

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        own = settings.entropy_range
        check_order(f"{PATH}.low", own.low, f"{PATH}.high", own.high)
        if own.schedule != "constant":
            check_order(f"{PATH}.low_end", own.low_end, f"{PATH}.high_end", own.high_end)

    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def check(self) -> Iterator[str]:
        own = self.settings
        stays = own.schedule == "constant"
        if own.low == 0 and own.high == 20 and (stays or (own.low_end == 0 and own.high_end == 20)):
            yield f"{PATH}: no entropy leaves the range from 0 to 20 nats, so that Entrocraft changes no advantage."

    def coefficients(self) -> dict[str, Coefficient]:
        own = self.settings
        return {
            "range_low": self._edge("the lower end of Entrocraft's range", own.low, own.low_end),
            "range_high": self._edge("the upper end of Entrocraft's range", own.high, own.high_end),
            "range_side": Coefficient("the side of the range: 1 above, -1 below", MEASURED),
        }

    def _edge(self, label: str, start: float, end: float) -> Coefficient:
        own = self.settings
        law = "fixed" if own.schedule == "constant" else "annealed"
        way = Anneal(kind=own.schedule, end=end, hold=own.hold, steps=own.steps)
        low, high = sorted((start, end))
        return Coefficient(label, law, start, low, high, PATH, Options(signed=False, anneal=way))

    def measure(self, tokens: Tokens, control: Control, c: Mapping[str, float]) -> dict[str, Measured]:
        entropy = control.entropy
        if entropy is None or not plausible(entropy):
            return {"range_side": Measured(0.0)}
        return {"range_side": Measured(float(entropy > c["range_high"]) - float(entropy < c["range_low"]))}

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        if c["range_side"] > 0:
            return tokens.advantage.clamp(min=0)
        return tokens.advantage.clamp(max=0) if c["range_side"] < 0 else tokens.advantage

    def idle(self) -> dict[str, str]:
        return {
            "entropo/range_side": "the entropy stayed inside Entrocraft's range, so that no advantage was changed. Set "
            f"{PATH}.low and high around the entropy that you want."
        }

    def describe(self) -> str:
        return f"{self.title} on {self.host.estimator} advantages"
