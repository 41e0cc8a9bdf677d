"""CE-GPPO: beyond PPO's clip a token keeps a gradient of bounded size (arXiv 2509.20712)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.fields import key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import ce_gppo

PAPER = "arXiv 2509.20712"


@dataclass(frozen=True)
class CeGppo:
    """CE-GPPO: `keep_low` and `keep_high` are the paper's beta_1 and beta_2."""

    keep_low: float = key(0.5, "share of the gradient kept for A < 0 below the clip", low=0.0, high=10.0, source=PAPER)
    keep_high: float = key(1.0, "share of the gradient kept for A > 0 above the clip", low=0.0, high=10.0, source=PAPER)
    clip_low: float = key(0.2, "lower clip of the ratio, 1 - clip_low", low=0.0, high=0.99, source=PAPER)
    clip_high: float = key(0.28, "upper clip of the ratio, 1 + clip_high", low=0.0, high=100.0, source=PAPER)
    clip_ratio_c: float = key(3.0, "dual clip for negative advantages", low=1.000001, high=1e6, source="verl")


@register
class CeGppoMethod(Method):
    """``-r A`` inside the clip; outside, where PPO has no gradient, a share of the gradient at the clip's edge."""

    name, title, node, settings_type = "ce_gppo", "CE-GPPO", "ce_gppo", CeGppo
    loss_mode, owns_loss = "ce_gppo", True

    def check(self) -> Iterator[str]:
        if self.host.updates == 1:
            yield (
                "CE-GPPO cannot act with one optimizer step per rollout batch, where the ratio is 1: it equals vanilla."
                f"{self.host.remedy('updates')}"
            )
        if self.settings.keep_low == self.settings.keep_high == 0:
            yield "entropo.ce_gppo.keep_low=0 and keep_high=0: no gradient is kept beyond the clip, as in vanilla."

    def clip_bounds(self, c: Mapping[str, float]) -> dict[str, Any]:
        own = self.settings
        return {"low": own.clip_low, "high": own.clip_high, "dual": own.clip_ratio_c}

    def loss(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        own = self.settings
        fields = tokens.log_prob, tokens.old_log_prob, tokens.advantage, tokens.mask
        return ce_gppo(
            *fields, keep_low=own.keep_low, keep_high=own.keep_high, weight=tokens.weight, **self.clip_bounds(c)
        )

    def idle(self) -> dict[str, str]:
        words = "no token of a {} lies beyond CE-GPPO's clip {}, where alone it acts. Lower entropo.ce_gppo.{}."
        return {
            "entropo/clip/above_positive": words.format("right answer", "from above", "clip_high"),
            "entropo/clip/below_negative": words.format("wrong answer", "from below", "clip_low"),
        }
