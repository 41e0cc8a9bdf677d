"""Responses whose reward or advantage is NaN or infinite: found before the update, which one of them would spoil.

A NaN reward makes the advantages of its whole group NaN. A response that is left out becomes a row like those that verl
itself appends for divisibility: masked, in a group of its own, and in no statistic.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transfer_queue as tq
from tensordict import NonTensorData, NonTensorStack, TensorDict
from torch import Tensor

from entropo_plugin import metric_names as names
from entropo_plugin.hosts.verl.driver.batch_cache import BatchCache, observed
from entropo_plugin.monitor.sessions import last_outputs

logger = logging.getLogger("entropo_plugin")

KEY = "entropo.nan_reward"


class BrokenReward(FloatingPointError):
    """Responses that no update may be made of.

    Attributes:
        keys: of all their rows.
    """

    def __init__(self, words: str, keys: Sequence[str]):
        super().__init__(words)
        self.keys = list(keys)


def finite_advantages(
    compute: Callable[..., Any], batch: Any, metrics: dict[str, Any], cache: BatchCache, choice: str, step: int
) -> Any:
    """verl's ``_compute_advantage`` over the responses whose reward and advantages are finite; returns its batch.

    Args:
        compute: verl's own.
        cache: listens to what verl moves, so that looking costs no traffic.
        choice: ``stop`` or ``drop``, from ``entropo.nan_reward``.
        step: the global step.

    Raises:
        BrokenReward: one is not finite and the choice is ``stop``, or none is finite.
    """
    sampled = _responses(batch)
    try:
        with _refusing_broken_rewards():
            batch = compute(batch, metrics)
    except BrokenReward as broken:
        _leave_out(broken, batch, cache, choice, step)
        batch = compute(batch, metrics)
    advantages = zip(cache.rows(batch, batch.keys, "advantages"), _masks(cache, batch, batch.keys), strict=True)
    keys = _broken(batch.keys, [row[mask.bool()] for row, mask in advantages])
    if keys:
        _leave_out(BrokenReward("an advantage", keys), batch, cache, choice, step)
    if choice == "drop":
        metrics[names.DROPPED_SHARE] = 1 - _responses(batch) / max(1, sampled)
    return batch


@contextmanager
def _refusing_broken_rewards() -> Iterator[None]:
    """verl's own reading of the rewards, inside, raises :class:`BrokenReward` where one is not finite."""

    def look(call: dict[str, Any], answer: TensorDict) -> None:
        if "rm_scores" in answer.keys():
            keys = _broken(call["keys"], answer["rm_scores"].unbind())
            if keys:
                raise BrokenReward("a reward", keys)

    get = tq.kv_batch_get
    tq.kv_batch_get = observed(get, look)
    try:
        yield
    finally:
        tq.kv_batch_get = get


def _broken(keys: Sequence[str], values: Sequence[Tensor]) -> list[str]:
    """Keys of all rows of the responses that have a value which is not finite in one of them."""
    _, response = last_outputs(keys, len(keys))
    broken = {response[row] for row, each in enumerate(values) if not each.isfinite().all()}
    return [key for key, number in zip(keys, response, strict=True) if number in broken]


def _responses(batch: Any) -> int:
    """Number of responses in the batch, without rows of padding."""
    keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
    return len(last_outputs(keys, len(keys))[0])


def _masks(cache: BatchCache, batch: Any, keys: Sequence[str]) -> list[Tensor]:
    return cache.rows(batch, keys, "response_mask")


def _leave_out(broken: BrokenReward, batch: Any, cache: BatchCache, choice: str, step: int) -> None:
    """Say it; then end the training, or make the rows padding.

    Raises:
        BrokenReward: the choice is ``stop``, or no response is left.
    """
    count, sampled = len(last_outputs(broken.keys, len(broken.keys))[0]), _responses(batch)
    words = f"step {step}: {count} of {sampled} responses have {broken} that is NaN or infinite"
    words += f" ({broken.keys[0]} first)"
    if choice == "stop" or count == sampled:
        remedy = f", or set {KEY}=drop to leave such responses out" if choice == "stop" else ""
        raise BrokenReward(f"{words}: an update would spoil the policy. Fix the reward function{remedy}.", broken.keys)
    logger.warning("entropo_plugin: %s; the step goes on without them.", words)
    _pad(broken.keys, batch, cache)


def _pad(keys: Sequence[str], batch: Any, cache: BatchCache) -> None:
    """Make these rows of the batch padding, in place and in TransferQueue."""
    for key, tag in zip(batch.keys, batch.tags, strict=True):
        if key in keys:
            tag["is_padding"] = True
    mask = [torch.zeros_like(row) for row in _masks(cache, batch, keys)]
    zeros = [row.float() for row in mask]
    uid = f"dropped{uuid.uuid4().hex}"
    fields = {"response_mask": _jagged(mask)} | dict.fromkeys(("rm_scores", "advantages", "returns"), _jagged(zeros))
    tq.kv_batch_put(
        keys=list(keys),
        partition_id=batch.partition_id,
        fields=TensorDict(fields | {"uid": NonTensorStack(*(NonTensorData(uid) for _ in keys))}, batch_size=len(keys)),
        tags=[tag for key, tag in zip(batch.keys, batch.tags, strict=True) if key in keys],
    )


def _jagged(rows: list[Tensor]) -> Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)
