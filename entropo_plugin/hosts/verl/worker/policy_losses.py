"""Our policy losses in verl's registry, called by verl's own ``ppo_loss`` for every micro-batch.

verl hands a policy loss neither coefficients nor the chosen tokens; ``host.worker`` puts them beside the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.compat import beside
from entropo_plugin.objectives import adapo, clip_cov, kl_cov, kl_penalty, micro_band, micro_top


@dataclass
class Step:
    """What one micro-batch needs beside verl's arguments, and the metrics that it adds."""

    payload: dict[str, Any]
    selected: Tensor | None = None
    shares: dict[str, Tensor] = field(default_factory=dict)


_step: ContextVar[Step | None] = ContextVar("entropo_step", default=None)


@contextmanager
def step(payload: dict[str, Any], selected: Tensor | None) -> Iterator[Step]:
    """Make a payload known to the losses called inside; their token counts are left in ``shares``."""
    current = Step(payload, selected)
    token = _step.set(current)
    try:
        yield current
    finally:
        _step.reset(token)


def _current(name: str) -> Step:
    current = _step.get()
    if current is None or name not in current.payload:
        raise ConfigError(
            f"policy_loss.loss_mode={name} runs only under our trainer. Use +entropo=NAME, which sets both."
        )
    return current


def adapo_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """ADAPO with this step's bounds; all arguments ``(batch, response)``, normalised by verl's ``agg_loss``."""
    bounds = dict(_current("adapo").payload["adapo"])
    loss = adapo(log_prob, old_log_prob, advantages, response_mask, weight=rollout_is_weights, **bounds)
    return _aggregate(loss, response_mask, loss_agg_mode, config), {}


def clip_cov_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Clip-Cov on the tokens that the driver chose over the whole batch, or in verl's own way per micro-batch."""
    current = _current("entropo_clip_cov")
    about = current.payload["entropo_clip_cov"]
    selected = current.selected
    if selected is None:
        band, clip = (about["low"], about["high"]), (about["clip_low"], about["clip_high"])
        selected = micro_band(log_prob, old_log_prob, advantages, response_mask, about["ratio"], band, clip)
    clip_at = {"low": about["clip_low"], "high": about["clip_high"]}
    loss = clip_cov(log_prob, old_log_prob, advantages, response_mask, selected, weight=rollout_is_weights, **clip_at)
    current.shares["entropo/selection/dropped"] = selected
    return _aggregate(loss, response_mask, loss_agg_mode, config), {}


def kl_cov_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """KL-Cov on the tokens that the driver chose over the whole batch, or in verl's own way per micro-batch."""
    current = _current("entropo_kl_cov")
    about = current.payload["entropo_kl_cov"]
    selected = current.selected
    if selected is None:
        selected = micro_top(log_prob, advantages, response_mask, about["ratio"])
    loss = kl_cov(
        log_prob,
        old_log_prob,
        advantages,
        response_mask,
        selected,
        beta=about["beta"],
        kind=about["penalty"],
        weight=rollout_is_weights,
        weigh_penalty=current.selected is None,
    )
    current.shares["entropo/selection/penalised"] = selected
    return _aggregate(loss, response_mask, loss_agg_mode, config), {}


def penalty(model_output: dict[str, Any], data: Any, config: Any) -> Tensor:
    """KL-Cov's penalty on the chosen tokens, to be added to any policy loss (EM, eq. 14), normalised as that is."""
    from verl.workers.utils.padding import no_padding_2_padding

    current = _current("penalty")
    if current.selected is None:
        raise ConfigError("entropo.covariance=kl_cov: no tokens were chosen for this batch. Use +entropo=NAME.")
    mask = data["response_mask"].to_padded_tensor(0).bool()
    old = data["old_log_probs"].to_padded_tensor(0.0)
    logp = no_padding_2_padding(model_output["log_probs"], data)
    about = current.payload["penalty"]
    extra = kl_penalty(logp, old, mask, current.selected, about["beta"], about["penalty"])
    current.shares["entropo/selection/penalised"] = current.selected
    return _aggregate(extra, mask, config.loss_agg_mode, config)


def _aggregate(loss: Tensor, mask: Tensor, mode: str, config: Any) -> Tensor:
    from verl.trainer.ppo.core_algos import agg_loss

    return agg_loss(loss_mat=loss, loss_mask=mask, loss_agg_mode=mode, **config.global_batch_info)


def register_losses(core_algos: ModuleType) -> None:
    """Register under our names; a loss of verl's own with such a name stays in force outside our trainer."""
    for name, loss in (
        ("adapo", adapo_loss),
        ("entropo_clip_cov", clip_cov_loss),
        ("entropo_kl_cov", kl_cov_loss),
    ):
        verls = core_algos.POLICY_LOSS_REGISTRY.get(name)
        core_algos.register_policy_loss(name)(beside(loss, verls, lambda: _step.get() is not None))


def padded(nested: Tensor, width: int) -> Tensor:
    """``(batch, width)`` boolean from a jagged one; ``to_padded_tensor`` does not know booleans."""
    rows = torch.zeros(nested.shape[0], width, dtype=torch.bool, device=nested.device)
    for row, values in zip(rows, nested.unbind(), strict=True):
        row[: len(values)] = values.bool()
    return rows
