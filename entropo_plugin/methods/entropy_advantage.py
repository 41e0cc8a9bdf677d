"""A bonus on the advantage where the policy is unsure (arXiv 2506.14758)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from entropo_plugin.fields import key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register

PAPER = "arXiv 2506.14758"


@dataclass(frozen=True)
class EntropyAdvantage:
    """A bonus of alpha H on the advantage, at most a share 1 / kappa of its size."""

    alpha: float = key(0.4, "bonus for one nat of entropy", low=0.0, high=100.0, source=PAPER)
    kappa: float = key(2.0, "the bonus is at most |A| / kappa", low=1.0, high=1e6, source=PAPER)


@register
class EntropyAdvantageMethod(Method):
    """``A + min(alpha H, |A| / kappa)`` with pi_old's entropy, which carries no gradient."""

    name, title, node, settings_type = "entropy_advantage", "entropy advantage", "entropy_advantage", EntropyAdvantage
    shapes = "driver"

    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def check(self) -> Iterator[str]:
        if self.settings.alpha == 0:
            yield "entropo.entropy_advantage.alpha=0: every advantage stays as it is."

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        assert tokens.entropy is not None
        bonus = (self.settings.alpha * tokens.entropy).to(tokens.advantage.dtype)
        return tokens.advantage + torch.minimum(bonus, tokens.advantage.abs() / self.settings.kappa)

    def idle(self) -> dict[str, str]:
        return {
            "entropo/shift": f"{self.title} changed no advantage: every reward of each prompt is equal, or alpha is 0."
            f"{self.host.remedy('more_responses')}"
        }

    def describe(self) -> str:
        return f"{self.title} on {self.host.estimator} advantages"
