"""Base advantages, one per response: what REPO modifies."""

from __future__ import annotations

import torch
from torch import Tensor

from entropo_plugin.shapes import same_shape


@same_shape("scores", "group")
def leave_one_out(scores: Tensor, group: Tensor) -> Tensor:
    """Score less the mean of the other responses to the same prompt: ``A_i = R_i - mean_{j != i} R_j``.

    RLOO, Ahmadian et al. 2024 (arXiv 2402.14740), the base of REPO in arXiv 2603.11682; no division by a standard
    deviation.

    Args:
        scores: ``(batch,)`` sum of each response's rewards.
        group: ``(batch,)`` integer id of each response's prompt, in ``[0, batch)``.

    Returns:
        ``(batch,)`` advantages; 0 for a response that is alone in its group, and exactly 0 where all scores of a group
        are equal.
    """
    count, centred = _count_times_centred(scores, group)
    return centred / (count - 1).clamp(min=1)


@same_shape("scores", "group")
def group_advantage(scores: Tensor, group: Tensor, std: bool = False, eps: float = 1e-6) -> Tensor:
    """Score less its group's mean, optionally over the group's standard deviation (GRPO, arXiv 2402.03300).

    As verl's own ``grpo``: the unbiased standard deviation plus ``eps``, and a response alone in its group keeps its
    score (mean 0, standard deviation 1). Where all scores of a group are equal it is exactly 0; verl's own leaves
    .056 of seven rewards of .7, because ``eps`` is no larger than the rounding that it divides.

    Args:
        scores: ``(batch,)`` sum of each response's rewards.
        group: ``(batch,)`` integer id of each response's prompt, in ``[0, batch)``.

    Returns:
        ``(batch,)`` advantages.
    """
    count, centred = _count_times_centred(scores, group)
    alone = count == 1
    centred = torch.where(alone, scores, centred / count)
    if not std:
        return centred
    squares = torch.zeros_like(scores).index_add(0, group, centred**2)[group]
    spread = (squares / (count - 1).clamp(min=1)).sqrt()
    return centred / (torch.where(alone, torch.ones_like(spread), spread) + eps)


def _count_times_centred(scores: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Size n of each response's group, and n times (its score less the group's mean): 0 where all scores are equal.

    Scores are taken relative to the group's largest first; equal ones leave zeros, whose sum has no rounding.
    """
    zeros = torch.zeros_like(scores)
    count = zeros.index_add(0, group, torch.ones_like(scores))[group]
    moved = scores - zeros.scatter_reduce(0, group, scores, "amax", include_self=False)[group]
    return count, count * moved - zeros.index_add(0, group, moved)[group]
