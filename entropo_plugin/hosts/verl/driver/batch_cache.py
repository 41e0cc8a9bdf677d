"""What verl itself reads and writes through TransferQueue on the driver, kept for one global step.

Every field that monitoring and shaping need passes through the driver anyway: verl's own ``_compute_old_log_prob``,
``_compute_advantage`` and ``_compute_metrics`` fetch or write it. Keeping it costs no traffic; fields that verl did not
move are fetched.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor

KEPT = (
    "responses",
    "response_mask",
    "old_log_probs",
    "entropy",
    "rollout_log_probs",
    "advantages",
    "ref_log_prob",
    "rm_scores",
    "uid",
)


class BatchCache:
    """The latest value of each field of :data:`KEPT` by row key, as ``(response,)`` tensors without padding."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep what this process reads and writes through TransferQueue inside; verl calls it as ``tq.kv_batch_*``."""
        get, put = tq.kv_batch_get, tq.kv_batch_put
        tq.kv_batch_get = observed(get, lambda call, answer: self.take(call["keys"], answer))
        tq.kv_batch_put = observed(put, lambda call, _: self.take(call["keys"], call.get("fields")))
        try:
            yield
        finally:
            tq.kv_batch_get, tq.kv_batch_put = get, put

    def take(self, keys: Sequence[str] | str, fields: TensorDict | None) -> None:
        """Keep the fields of these rows; a later value replaces an earlier one."""
        keys, present = [keys] if isinstance(keys, str) else keys, {} if fields is None else fields
        for name in (name for name in KEPT if name in present.keys()):
            for key, row in zip(keys, _rows(present[name], len(keys)), strict=True):
                self._rows.setdefault(key, {})[name] = row

    def clear(self) -> None:
        """Forget everything: the step is over."""
        self._rows.clear()

    def holds(self, keys: Sequence[str], name: str) -> bool:
        """Whether a field is known for all of these rows."""
        return all(name in self._rows.get(key, ()) for key in keys)

    def rows(self, batch: Any, keys: Sequence[str], name: str) -> list[Any]:
        """One field of these rows of a batch, fetched if verl did not move it.

        Args:
            batch: verl's metadata; its partition is where a field that verl did not move is fetched from.
            keys: the rows.
            name: one of :data:`KEPT`.
        """
        if not self.holds(keys, name):
            self.take(keys, tq.kv_batch_get(keys=list(keys), partition_id=batch.partition_id, select_fields=[name]))
        return [self._rows[key][name] for key in keys]

    def get(self, batch: Any, fields: list[str]) -> TensorDict:
        """Fields of a whole batch, jagged, as ``kv_batch_get`` gives them."""
        jagged = {
            name: torch.nested.as_nested_tensor(self.rows(batch, batch.keys, name), layout=torch.jagged)
            for name in fields
        }
        return TensorDict(jagged, batch_size=len(batch.keys))


def _rows(values: Any, count: int) -> list[Any]:
    """One value a row; text that is the same for all rows comes once."""
    if isinstance(values, Tensor):
        return list(values.unbind())
    return [values] * count if isinstance(values, str) else list(values)


def observed(function: Callable[..., Any], keep: Callable[[dict[str, Any], Any], None]) -> Callable[..., Any]:
    """The function, with ``keep`` called on its arguments by name and its answer."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = function(*args, **kwargs)
        keep(signature.bind(*args, **kwargs).arguments, answer)
        return answer

    return call
