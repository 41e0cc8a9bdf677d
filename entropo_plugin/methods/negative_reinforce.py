"""W-REINFORCE: wrong answers push with full weight, right ones with a tenth of it (arXiv 2506.01347)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from entropo_plugin.fields import key
from entropo_plugin.methods.estimator import EstimatorMethod
from entropo_plugin.methods.registry import register

PAPER = "arXiv 2506.01347"


@dataclass(frozen=True)
class NegativeReinforce:
    """W-REINFORCE: the advantage is `weight` for a right answer and -1 for a wrong one."""

    weight: float = key(0.1, "advantage of a right answer; 0: wrong ones alone", low=0.0, high=100.0, source=PAPER)
    threshold: float = key(0.5, "score from which on an answer counts as right", low=-1e6, high=1e6)


@register
class NegativeReinforceMethod(EstimatorMethod):
    """``A = weight if R >= threshold else -1``, without a baseline."""

    name, title, node, settings_type = "negative_reinforce", "W-REINFORCE", "negative_reinforce", NegativeReinforce
    estimator = "negative_reinforce"

    def baseline(self, rewards: Tensor, group: Tensor) -> Tensor:
        right = rewards >= self.settings.threshold
        return torch.where(right, torch.full_like(rewards, self.settings.weight), -torch.ones_like(rewards))

    def describe(self) -> str:
        return f"{self.title} advantages"
