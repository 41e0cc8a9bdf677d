"""UP: tokens of right answers keep their full gradient, however unlikely they have become (arXiv 2607.06987)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import unlikely_positive


@register
class UnlikelyPositive(Method):
    """``A > 0``: the ratio's value leaves the loss, so that no clip and no falling ratio takes its gradient."""

    name, title, loss_mode = "unlikely_positive", "UP", "unlikely_positive"
    owns_loss = True

    def check(self) -> Iterator[str]:
        if self.host.updates == 1:
            yield (
                "UP cannot act with one optimizer step per rollout batch, where the ratio is 1: it equals vanilla."
                f"{self.host.remedy('updates')}"
            )

    def loss(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        low, high, dual = self.host.clip
        fields = tokens.log_prob, tokens.old_log_prob, tokens.advantage, tokens.mask
        return unlikely_positive(*fields, low=low, high=high, dual=dual, weight=tokens.weight)

    def clip_bounds(self, c: Mapping[str, float]) -> dict[str, Any]:
        # no token of a right answer is clipped
        return {"high": math.inf}
