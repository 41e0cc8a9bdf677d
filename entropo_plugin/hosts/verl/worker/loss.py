"""The loss that runs in every actor worker, installed once through verl's ``set_loss_fn``.

It shapes the advantages with the current policy's log-probs where the step's payload asks for it, and leaves everything
else (policy loss, normalisation, KL loss, entropy bonus) to verl's own ``ppo_loss``.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding

from entropo_plugin.hosts.verl.worker import policy_losses as losses
from entropo_plugin.hosts.verl.worker.clip_shares import clip_shares
from entropo_plugin.objectives import repo_r, stand_in

PAYLOAD = "entropo"
SELECTED = "entropo_selected"
BROKEN = "entropo/nonfinite/log_probs"


def entropo_loss(config: Any, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None) -> Any:
    """verl's ``ppo_loss`` on advantages that follow the current policy, and with our policy losses informed.

    Without a payload the arguments go through untouched, so that the loss is verl's bit for bit; clip shares are added
    to the metrics either way.
    """
    payload = tu.get_non_tensor_data(data, PAYLOAD, None)
    if not payload:
        loss, found = ppo_loss(config=config, model_output=model_output, data=data, dp_group=dp_group)
        return loss, found | clip_shares(config, {}, model_output, data)
    changed, metrics = shape(payload, model_output, data) if "zeta" in payload else (data, {})
    config = with_entropy_coeff(config, payload)
    with losses.step(payload, chosen(data)) as current:
        loss, found = ppo_loss(config=config, model_output=model_output, data=changed, dp_group=dp_group)
        if "penalty" in payload:
            loss = loss + losses.penalty(model_output, data, config)
    shares = {name: token_share(marked, data) for name, marked in current.shares.items()}
    shares |= {BROKEN: token_share(broken(model_output, data), data)}
    return loss, found | metrics | shares | clip_shares(config, payload, model_output, changed)


def broken(model_output: dict[str, Any], data: TensorDict) -> Tensor:
    """``(batch, response)`` True where the current log-prob is NaN or infinite.

    The losses bound the ratio, so that an infinite log-prob need not show in them.
    """
    return ~no_padding_2_padding(model_output["log_probs"].detach(), data).isfinite()


def with_entropy_coeff(config: Any, payload: dict[str, Any]) -> Any:
    """verl's actor settings with this step's entropy coefficient; they are frozen, so a copy."""
    if payload.get("entropy_coeff", config.entropy_coeff) == config.entropy_coeff:
        return config
    changed = copy(config)
    vars(changed)["entropy_coeff"] = payload["entropy_coeff"]
    return changed


def chosen(data: TensorDict) -> Tensor | None:
    """The driver's chosen tokens in this micro-batch, ``(batch, response)`` boolean, or None."""
    if SELECTED not in data.keys():
        return None
    mask = data["response_mask"]
    width = int(mask.offsets().diff().max()) if mask.is_nested else mask.shape[1]
    return losses.padded(data[SELECTED], width)


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
    return changed, {"entropo/shift": token_share((shaped - padded).abs(), data)}


def _like(padded: Tensor, original: Any) -> Tensor:
    """``padded`` in the layout of ``original``: nested with the same lengths, or padded."""
    if not original.is_nested:
        return padded
    lengths = original.offsets().diff().tolist()
    return torch.nested.as_nested_tensor([row[:n] for row, n in zip(padded, lengths, strict=True)], layout=torch.jagged)


def token_share(values: Tensor, data: TensorDict) -> Metric:
    """Mean of ``(batch, response)`` values over the global mini-batch's response tokens, exact however it is cut.

    A value that is not finite counts 0.
    """
    mask = data["response_mask"]
    mask = mask.to_padded_tensor(0) if mask.is_nested else mask
    kept = mask.bool() & values.isfinite()
    total = torch.where(kept, values, torch.zeros_like(values)).sum()
    share = total * data["dp_size"] / max(data["batch_num_tokens"], 1)
    return Metric(value=share, aggregation=AggregationType.SUM)
