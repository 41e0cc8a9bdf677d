"""The loss that runs in every actor worker, installed once through verl's ``set_loss_fn``.

It shapes the advantages with the current policy's log-probs where the step's payload asks for it, and leaves everything
else (policy loss, normalisation, KL loss, entropy bonus) to verl's own ``ppo_loss``.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding

from entropo_plugin.objectives import repo_r, stand_in

PAYLOAD = "entropo"


def entropo_loss(config: Any, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None) -> Any:
    """verl's ``ppo_loss`` on advantages that follow the current policy.

    Without a payload the arguments go through untouched, so that the loss is verl's bit for bit.
    """
    payload = tu.get_non_tensor_data(data, PAYLOAD, None)
    if not payload:
        return ppo_loss(config=config, model_output=model_output, data=data, dp_group=dp_group)
    data, metrics = shape(payload, model_output, data)
    loss, found = ppo_loss(config=config, model_output=model_output, data=data, dp_group=dp_group)
    return loss, found | metrics


def shape(payload: dict[str, Any], model_output: dict[str, Any], data: TensorDict) -> tuple[TensorDict, dict[str, Any]]:
    """REPO-R on one micro-batch; the caller's data stay as they are, because they are used again in the next epoch."""
    logp = no_padding_2_padding(model_output["log_probs"], data)
    entropy = no_padding_2_padding(model_output["entropy"], data) if payload["center"] else None
    base = data["advantages"]
    padded = base.to_padded_tensor(0.0) if base.is_nested else base
    level = stand_in(logp, entropy, payload["floor"])[:, : padded.shape[1]]
    shaped = repo_r(padded, level, payload["zeta"])
    changed = data.copy()
    changed["advantages"] = _like(shaped, base)
    return changed, {"entropo/shift": _mean_shift(shaped - padded, data)}


def _like(padded: Tensor, original: Any) -> Tensor:
    """``padded`` in the layout of ``original``: nested with the same lengths, or padded."""
    if not original.is_nested:
        return padded
    lengths = original.offsets().diff().tolist()
    return torch.nested.as_nested_tensor([row[:n] for row, n in zip(padded, lengths, strict=True)], layout=torch.jagged)


def _mean_shift(change: Tensor, data: TensorDict) -> Metric:
    """Mean |change of the advantage| over the global mini-batch's response tokens, exact however it is cut."""
    tokens, ranks = data["batch_num_tokens"], data["dp_size"]
    mask = data["response_mask"]
    mask = mask.to_padded_tensor(0) if mask.is_nested else mask
    share = (change.abs() * mask).sum() * ranks / tokens
    return Metric(value=share, aggregation=AggregationType.SUM)
