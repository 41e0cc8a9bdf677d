"""Our advantage estimators in verl's registry: they give REPO's base advantage.

verl hands an estimator neither log-probs nor entropy, so the modification itself happens in ``host.trainer`` (once per
batch) or ``host.worker`` (in the loss).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropo_plugin.config import ESTIMATORS, Repo
from entropo_plugin.hosts.verl.compat import beside
from entropo_plugin.objectives import drop_small, group_advantage, leave_one_out

_batch: ContextVar[tuple[Repo, Sequence[str] | None]] = ContextVar("entropo_batch", default=(Repo(), None))


@contextmanager
def batch(repo: Repo, keys: Sequence[str] | None) -> Iterator[None]:
    """Settings and row keys (``{uid}_{session}_{index}``) for the estimators called inside."""
    token = _batch.set((repo, keys))
    try:
        yield
    finally:
        _batch.reset(token)


def repo_base(
    token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **unused: Any
) -> tuple[Tensor, Tensor]:
    """Base advantage of REPO over each prompt's responses, broadcast to their tokens.

    Where an agent session has several outputs, the last one's advantage goes to all of them, as verl does for the
    literal name ``grpo`` only (trainer/ppo/v1/utils.py:148).

    Args:
        token_level_rewards: ``(batch, response)``.
        response_mask: ``(batch, response)``.
        index: ``(batch,)`` prompt ids.

    Returns:
        Advantages and returns, both ``(batch, response)``.
    """
    repo, keys = _batch.get()
    final, session = last_outputs(keys, len(response_mask))
    _, group = np.unique(np.asarray(index)[final], return_inverse=True)
    scores, ids = token_level_rewards.sum(-1)[final], torch.as_tensor(group)
    if repo.base == "rloo":
        advantage = leave_one_out(scores, ids)
    else:
        advantage = group_advantage(scores, ids, repo.std)
    advantage = drop_small(advantage, repo.min_advantage)[session].unsqueeze(-1) * response_mask
    return advantage, advantage


def last_outputs(keys: Sequence[str] | None, rows: int) -> tuple[list[int], list[int]]:
    """Rows that are their session's last output, and for every row the position of its session's in that list."""
    if keys is None:
        return list(range(rows)), list(range(rows))
    parts = [key.rsplit("_", 1) for key in keys]
    last: dict[str, int] = {}
    for row, (session, number) in enumerate(parts):
        if session not in last or int(parts[last[session]][1]) < int(number):
            last[session] = row
    position = {session: i for i, session in enumerate(last)}
    return list(last.values()), [position[session] for session, _ in parts]


def register_estimators(core_algos: ModuleType) -> None:
    """Register under our names; an estimator of verl's own with such a name stays in force outside our trainer."""
    registry = core_algos.ADV_ESTIMATOR_REGISTRY
    for name in ESTIMATORS:
        registry[name] = beside(repo_base, registry.get(name), lambda: _batch.get(None) is not None)
