"""A check of shapes for pure functions.

A ``(batch,)`` advantage beside ``(batch, response)`` log-probs broadcasts along the wrong axis where batch == response.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def same_shape(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: the named arguments that are tensors have one shape, or a ValueError says which has not.

    Scalars, which broadcast in one way only, are left out. It looks at shapes alone: it costs microseconds and waits
    for no device.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        order = tuple(inspect.signature(function).parameters)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            given = dict(zip(order, args, strict=False)) | kwargs
            tensors = {name: value for name in names if isinstance(value := given.get(name), Tensor)}
            shapes = {name: value.shape for name, value in tensors.items() if value.ndim}
            widest = max(shapes, key=lambda name: len(shapes[name]), default="")
            for name, shape in shapes.items():
                if shape != shapes[widest]:
                    raise ValueError(_words(function.__name__, name, tuple(shape), widest, tuple(shapes[widest])))
            return function(*args, **kwargs)

        return checked

    return decorate


def _words(function: str, name: str, shape: tuple[int, ...], widest: str, expected: tuple[int, ...]) -> str:
    """What is wrong, and for one number a response what to do."""
    remedy = f" One value a response: {name}[:, None].expand_as({widest})." if shape == expected[:1] else ""
    return f"{function}: {name} has the shape {shape}, expected {expected}, the shape of {widest}.{remedy}"
