"""The loss that runs in every actor worker, installed once through verl's ``set_loss_fn``.

It runs the worker's part of the pipeline where a method of this run has one, and leaves everything else (policy loss,
normalisation, KL loss, entropy bonus) to verl's own ``ppo_loss``.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.losses import ppo_loss

from entropo_plugin.hosts.verl.worker.clip_shares import clip_shares
from entropo_plugin.hosts.verl.worker.late_metric import LateMetric
from entropo_plugin.hosts.verl.worker.layout import padded, padded_boolean, responses_of
from entropo_plugin.hosts.verl.worker.policy_losses import NAME, Step, aggregate, within
from entropo_plugin.methods.active import selection_name
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.pipeline import drop, loss_owner, overrides, penalties, shape

PAYLOAD = "entropo"
SELECTED = "entropo_selected_"
BROKEN = "entropo/nonfinite/log_probs"


def entropo_loss(
    config: Any,
    model_output: dict[str, Any],
    data: TensorDict,
    dp_group: Any = None,
    methods: Sequence[Method] = (),
) -> Any:
    """verl's ``ppo_loss`` on advantages that follow the current policy, and with the methods' losses informed.

    Without methods the arguments go through untouched, so that the loss is verl's bit for bit; clip shares are added
    to the metrics either way.

    Args:
        config: verl's ``ActorConfig``.
        model_output: the forward pass's ``log_probs``, and ``entropy`` where it was asked for.
        data: the micro-batch.
        methods: what runs, as the driver made them; their memories stay on the driver.
    """
    coefficients = tu.get_non_tensor_data(data, PAYLOAD, None)
    if not methods or coefficients is None:
        loss, metrics = ppo_loss(config=config, model_output=model_output, data=data, dp_group=dp_group)
        return loss, metrics | clip_shares(config, None, model_output, data)
    tokens = tokens_of(model_output, data)
    step = Step(methods, coefficients, tokens, chosen(methods, data, tokens.mask.shape[1]))
    acting, moved = acting_config(config, step), shaped(step, data)
    with within(step):
        loss, metrics = ppo_loss(config=acting, model_output=model_output, data=moved, dp_group=dp_group)
    loss = with_penalties(loss, step, acting)
    return loss, metrics | own_metrics(step, config, model_output, moved)


def tokens_of(model_output: dict[str, Any], data: TensorDict) -> Tokens:
    """The micro-batch, ``(batch, response)``, with the current policy's log-probs and entropies."""
    mask = padded(data["response_mask"])
    width = mask.shape[1]
    entropy = model_output.get("entropy")
    return Tokens(
        log_prob=responses_of(model_output["log_probs"], data, width),
        mask=mask,
        old_log_prob=padded(data["old_log_probs"]),
        advantage=padded(data["advantages"]),
        entropy=None if entropy is None else responses_of(entropy, data, width),
        ref_log_prob=padded(data["ref_log_prob"]) if "ref_log_prob" in data.keys() else None,
    )


def acting_config(config: Any, step: Step) -> Any:
    """verl's actor settings with this step's scalars and the active method's loss; they are frozen, so a copy."""
    changes: dict[str, Any] = dict(overrides(step.methods, step.coefficients))
    if loss_owner(step.methods) is not None:
        policy_loss = copy(config.policy_loss)
        vars(policy_loss)["loss_mode"] = NAME
        changes["policy_loss"] = policy_loss
    if all(getattr(config, name) == value for name, value in changes.items()):
        return config
    changed = copy(config)
    vars(changed).update(changes)
    return changed


def shaped(step: Step, data: TensorDict) -> TensorDict:
    """The micro-batch with its advantages after the worker's shapes, padded; the caller's data stay as they are.

    They are used again in the next epoch.
    """
    if not any(method.shapes == "worker" for method in step.methods):
        return data
    assert step.tokens is not None
    advantage = shape(step.methods, step.tokens, step.coefficients, "worker")
    moved = data.copy()
    moved["advantages"] = drop(step.methods, advantage, step.selected)
    return moved


def with_penalties(loss: Tensor, step: Step, config: Any) -> Tensor:
    """The loss and what the methods add to it, normalised alike."""
    assert step.tokens is not None
    extra = penalties(step.methods, step.tokens, step.coefficients, step.selected)
    if extra is None:
        return loss
    return loss + aggregate(extra, step.tokens.mask.bool(), config.loss_agg_mode, config)


def own_metrics(step: Step, config: Any, model_output: dict[str, Any], data: TensorDict) -> dict[str, Metric]:
    """What is logged of one micro-batch, as shares of the global mini-batch's response tokens."""
    assert step.tokens is not None
    values = {BROKEN: ~step.tokens.log_prob.detach().isfinite()}
    if any(method.shapes == "worker" for method in step.methods):
        late = next(method for method in step.methods if method.shapes == "worker")
        name = selection_name(step.methods, late, "entropo/shift")
        values[name] = (padded(data["advantages"]) - step.tokens.advantage).abs()
    for method in step.methods:
        if method.name in step.selected:
            name = selection_name(step.methods, method, f"entropo/selection/{method.acts_on}")
            values[name] = step.selected[method.name]
    shares = {name: token_share(value, data) for name, value in values.items()}
    owner = loss_owner(step.methods)
    bounds = None if owner is None else owner.clip_bounds(step.coefficients[owner.name])
    return shares | clip_shares(config, bounds, model_output, data)


def chosen(methods: Sequence[Method], data: TensorDict, width: int) -> dict[str, Tensor]:
    """By method, the driver's chosen tokens in this micro-batch, ``(batch, width)`` boolean."""
    names = [method.name for method in methods if f"{SELECTED}{method.name}" in data.keys()]
    return {name: padded_boolean(data[f"{SELECTED}{name}"], width) for name in names}


def token_share(values: Tensor, data: TensorDict) -> Metric:
    """Mean of ``(batch, response)`` values over the global mini-batch's response tokens, exact however it is cut.

    A value that is not finite counts 0.
    """
    kept = padded(data["response_mask"]).bool() & values.isfinite()
    total = torch.where(kept, values, torch.zeros_like(values)).sum()
    share = total * data["dp_size"] / max(data["batch_num_tokens"], 1)
    return LateMetric(AggregationType.SUM, share)
