"""Statistics of the rewards of each prompt's responses, given back to every response."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from entropo_plugin.shapes import same_shape


@same_shape("rewards", "group")
def group_quantile(rewards: Tensor, group: Tensor, share: float) -> Tensor:
    """The smallest reward that at least ``share`` of the group's rewards do not exceed (the inverse of their CDF).

    Args:
        rewards: ``(responses,)``.
        group: ``(responses,)`` integer id of each response's prompt.
        share: above 0, at most 1.

    Returns:
        ``(responses,)``.
    """
    level = torch.zeros_like(rewards)
    for one in group.unique():
        members = group == one
        ordered = rewards[members].sort().values
        level[members] = ordered[quantile_rank(share, len(ordered)) - 1]
    return level


def quantile_rank(share: float, size: int) -> int:
    """Which of ``size`` ordered values, from 1 on, is the smallest that at least ``share`` of them do not exceed."""
    # 0.55 of 100 is 55, although the product is 55.00000000000001
    return max(1, math.ceil(share * size - 1e-9))


@same_shape("rewards", "group")
def group_std(rewards: Tensor, group: Tensor) -> Tensor:
    """``(responses,)`` standard deviation of each response's group, divided by its size (ddof 0)."""
    spread = torch.zeros_like(rewards)
    for one in group.unique():
        members = group == one
        spread[members] = rewards[members].std(correction=0)
    return spread
