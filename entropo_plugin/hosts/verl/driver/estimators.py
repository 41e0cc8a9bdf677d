"""The methods' advantage estimators in verl's registry: each gives its method's base advantage.

verl hands an estimator neither log-probs nor entropy, so what a method does beyond the base advantage happens in
``driver.trainer`` (once per batch) or ``worker.loss``.
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

from entropo_plugin.fields import ConfigError
from entropo_plugin.hosts.verl.compat import beside
from entropo_plugin.methods.base import Method
from entropo_plugin.methods.registry import estimators
from entropo_plugin.monitor.sessions import last_outputs

_batch: ContextVar[tuple[Method | None, Sequence[str] | None] | None] = ContextVar("entropo_batch", default=None)


@contextmanager
def batch(method: Method | None, keys: Sequence[str] | None) -> Iterator[None]:
    """The method whose estimator runs, and row keys (``{uid}_{session}_{index}``), for the estimators called inside."""
    token = _batch.set((method, keys))
    try:
        yield
    finally:
        _batch.reset(token)


def base_advantage(
    token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **unused: Any
) -> tuple[Tensor, Tensor]:
    """A method's base advantage over each prompt's responses, broadcast to their tokens.

    Where an agent session has several outputs, the last one's advantage goes to all of them, as verl does for the
    literal name ``grpo`` only (trainer/ppo/v1/utils.py:148).

    Args:
        token_level_rewards: ``(batch, response)``.
        response_mask: ``(batch, response)``.
        index: ``(batch,)`` prompt ids.

    Returns:
        Advantages and returns, both ``(batch, response)``.

    Raises:
        ConfigError: called outside our trainer.
    """
    method, keys = _batch.get() or (None, None)
    if method is None:
        raise ConfigError(
            "algorithm.adv_estimator: this estimator runs only under our trainer. Use +entropo=NAME, which sets both."
        )
    final, session = last_outputs(keys, len(response_mask))
    _, group = np.unique(np.asarray(index)[final], return_inverse=True)
    advantage = method.baseline(token_level_rewards.sum(-1)[final], torch.as_tensor(group))
    spread = advantage[session].unsqueeze(-1) * response_mask
    return spread, spread


def register_estimators(core_algos: ModuleType) -> None:
    """Register under the methods' names; an estimator of verl's own with such a name stays in force elsewhere."""
    registry = core_algos.ADV_ESTIMATOR_REGISTRY
    for name in estimators():
        registry[name] = beside(base_advantage, registry.get(name), lambda: _batch.get() is not None)
