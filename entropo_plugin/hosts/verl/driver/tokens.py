"""A rollout batch on the driver as the pipeline takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropo_plugin.hosts.verl.driver.batch_cache import BatchCache
from entropo_plugin.methods.base import Tokens

NEEDED = ["advantages", "old_log_probs", "response_mask", "rm_scores"]
OPTIONAL = ("entropy", "ref_log_prob")


def driver_tokens(
    cache: BatchCache, batch: Any, step: int, parts: Sequence[Tensor] | None = None
) -> tuple[Tokens, Tensor]:
    """The whole batch, padding rows included, ``(batch, response)``, and its jagged response mask.

    Args:
        cache: what verl moved.
        batch: verl's metadata of the batch.
        step: the global step.
        parts: rows of each optimizer step, where the driver knows them.
    """
    names = NEEDED + [name for name in OPTIONAL if cache.holds(batch.keys, name)]
    nested = cache.get(batch, names)
    data = {name: nested[name].to_padded_tensor(0) for name in names}
    logp = data["old_log_probs"]
    tokens = Tokens(
        log_prob=logp,
        mask=data["response_mask"],
        old_log_prob=logp,
        advantage=data["advantages"],
        entropy=data.get("entropy"),
        ref_log_prob=data.get("ref_log_prob"),
        reward=data["rm_scores"].sum(-1),
        group=_groups(cache.rows(batch, batch.keys, "uid")),
        keys=batch.keys,
        step=step,
        parts=parts,
    )
    return tokens, nested["response_mask"]


def _groups(uid: Sequence[Any]) -> Tensor:
    _, group = np.unique([str(name) for name in uid], return_inverse=True)
    return torch.as_tensor(group)


def mini_batches(rows: int, ranks: int, size: int) -> list[Tensor]:
    """Rows of each optimizer step's mini-batch, as verl cuts a batch: equal blocks for the ranks, each in order.

    Args:
        rows: responses of the batch, padding rows included.
        ranks: data-parallel ranks of the actor.
        size: responses of a mini-batch over all ranks.
    """
    each = torch.arange(rows).view(ranks, -1).split(size // ranks, dim=1)
    return [block.flatten() for block in each]
