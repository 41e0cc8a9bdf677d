"""The methods' policy losses in verl's registry, called by verl's own ``ppo_loss`` for every micro-batch.

verl hands a policy loss neither coefficients nor the chosen tokens; ``worker.loss`` puts them beside the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor

from entropo_plugin.fields import ConfigError
from entropo_plugin.hosts.verl.compat import beside
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import losses
from entropo_plugin.pipeline import WORKER, loss_owner, select

# The name under which verl's workers look the active method's loss up, whatever the user's configuration names.
NAME = "entropo"


@dataclass
class Step:
    """What one micro-batch needs beside verl's arguments.

    Attributes:
        methods: what runs.
        coefficients: what acts in this step, by method.
        tokens: the micro-batch as far as it is known before verl's loss.
        selected: by method, the tokens that were chosen; the worker's own choices join them.
    """

    methods: Sequence[Method]
    coefficients: Mapping[str, Mapping[str, float]]
    tokens: Tokens | None = None
    selected: dict[str, Tensor] = field(default_factory=dict)


_step: ContextVar[Step | None] = ContextVar("entropo_step", default=None)


@contextmanager
def within(step: Step) -> Iterator[Step]:
    """Make a step known to the loss called inside."""
    token = _step.set(step)
    try:
        yield step
    finally:
        _step.reset(token)


def method_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """The active method's loss; all arguments ``(batch, response)``, normalised by verl's ``agg_loss``.

    Raises:
        ConfigError: called outside our trainer, or where no method has a loss of its own.
    """
    step = _step.get()
    owner = None if step is None else loss_owner(step.methods)
    if step is None or owner is None:
        name = config.policy_loss.loss_mode
        raise ConfigError(
            f"policy_loss.loss_mode={name} runs only under our trainer. Use +entropo=NAME, which sets both."
        )
    entropy = None if step.tokens is None else step.tokens.entropy
    tokens = Tokens(log_prob, response_mask, old_log_prob, advantages, entropy, weight=rollout_is_weights)
    chosen, _ = select([owner], tokens, step.coefficients, WORKER)
    step.selected |= chosen
    loss = owner.loss(tokens, step.coefficients[owner.name], step.selected.get(owner.name))
    return aggregate(loss, response_mask, loss_agg_mode, config), {}


def aggregate(loss: Tensor, mask: Tensor, mode: str, config: Any) -> Tensor:
    """One number from ``(batch, response)`` losses, normalised as verl's own."""
    from verl.trainer.ppo.core_algos import agg_loss

    return agg_loss(loss_mat=loss, loss_mask=mask, loss_agg_mode=mode, **config.global_batch_info)


def register_losses(core_algos: ModuleType) -> None:
    """Register under the methods' names; a loss of verl's own with such a name stays in force outside our trainer."""
    for name in (NAME, *losses()):
        verls = core_algos.POLICY_LOSS_REGISTRY.get(name)
        core_algos.register_policy_loss(name)(beside(method_loss, verls, lambda: _step.get() is not None))
