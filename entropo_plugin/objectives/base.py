"""Base advantages, one per response: what REPO modifies."""

from __future__ import annotations

import torch
from torch import Tensor


def leave_one_out(scores: Tensor, group: Tensor) -> Tensor:
    """Score less the mean of the other responses to the same prompt: ``A_i = R_i - mean_{j != i} R_j``.

    RLOO, Ahmadian et al. 2024 (arXiv 2402.14740), the base of REPO in EPRL; no division by a standard deviation.

    Args:
        scores: ``(batch,)`` sum of each response's rewards.
        group: ``(batch,)`` integer id of each response's prompt, in ``[0, batch)``.

    Returns:
        ``(batch,)`` advantages; 0 for a response that is alone in its group.
    """
    count, mean = _group_mean(scores, group)
    scale = torch.where(count > 1, count / (count - 1).clamp(min=1), torch.zeros_like(count))
    return (scores - mean) * scale


def group_advantage(scores: Tensor, group: Tensor, std: bool = False, eps: float = 1e-6) -> Tensor:
    """Score less its group's mean, optionally over the group's standard deviation (GRPO, arXiv 2402.03300).

    As verl's own ``grpo``: the unbiased standard deviation plus ``eps``, and a response alone in its group keeps its
    score (mean 0, standard deviation 1).

    Args:
        scores: ``(batch,)`` sum of each response's rewards.
        group: ``(batch,)`` integer id of each response's prompt, in ``[0, batch)``.

    Returns:
        ``(batch,)`` advantages.
    """
    count, mean = _group_mean(scores, group)
    alone = count == 1
    centred = scores - torch.where(alone, torch.zeros_like(mean), mean)
    if not std:
        return centred
    squares = torch.zeros_like(scores).index_add(0, group, centred**2)[group]
    spread = (squares / (count - 1).clamp(min=1)).sqrt()
    return centred / (torch.where(alone, torch.ones_like(spread), spread) + eps)


def _group_mean(scores: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    zeros = torch.zeros_like(scores)
    count = zeros.index_add(0, group, torch.ones_like(scores))[group]
    return count, zeros.index_add(0, group, scores)[group] / count
