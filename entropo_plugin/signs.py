"""A check of signs for the functions that a notebook calls: no log-prob is above 0, and no entropy below.

It reads values, for which a GPU must be waited for. So a training calls the functions as ``objectives`` has them, and
``from entropo_plugin import NAME`` gives them with this check.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

LOG_PROBS = ("logp", "old_logp", "old_log_probs", "rollout_log_probs")
ENTROPIES = ("entropy",)


def signed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its log-probs and entropies checked; itself where it takes none, or is a class."""
    signature = inspect.signature(function)
    if inspect.isclass(function) or not {*LOG_PROBS, *ENTROPIES, "tokens"} & {*signature.parameters}:
        return function

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        tokens = given.get("tokens")
        check_signs(function.__name__, given if tokens is None else vars(tokens) | {"mask": tokens.response_mask})
        return function(*args, **kwargs)

    return checked


def check_signs(function: str, given: Mapping[str, Any]) -> None:
    """Refuse a log-prob whose mean over the response tokens is above 0, and an entropy whose mean is below.

    The mean, because rounding in bf16 carries single tokens across 0.
    """
    for name in (*LOG_PROBS, *ENTROPIES):
        mean = _mean(given[name], given.get("mask")) if isinstance(given.get(name), Tensor) else 0.0
        if (mean > 0) if name in LOG_PROBS else (mean < 0):
            fact = "no log-prob is above 0" if name in LOG_PROBS else "no entropy is below 0"
            raise ValueError(
                f"{function}: {name} has the mean {mean:.3g} nats, but {fact}. Are log-prob and entropy swapped, or is "
                "it -log p?"
            )


def _mean(values: Tensor, mask: Tensor | None) -> float:
    """Over the finite values where the mask is on; 0 without any. A mask of another shape is refused elsewhere."""
    kept = values.isfinite()
    if mask is not None and mask.shape == values.shape:
        kept = kept & mask.bool()
    return float(values.detach()[kept].double().mean()) if kept.any() else 0.0
