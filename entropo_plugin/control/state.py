"""Whether a saved state has the form of a run's own: nothing that a person edited by hand gets into a controller."""

from __future__ import annotations

import math
from typing import Any

from entropo_plugin.fields import shown

LARGEST_COUNT = 2**53
# No entropy, coefficient or sum of squares of a real run comes near it.
LARGEST = 1e60


def misfits(saved: Any, own: Any, path: str = "") -> list[str]:
    """What in ``saved`` differs in form from ``own``, one phrase each; empty when nothing does.

    Args:
        saved: what was read from a file: anything that JSON can hold.
        own: the state of a fresh run. Where it holds None, a number or one flat object of numbers may stand.
        path: dotted name of both.
    """
    if isinstance(own, dict):
        return _object(saved, own, path)
    return [] if _fits(saved, own) else [f"{path}={shown(saved)} is not {_expected(own)}"]


def _object(saved: Any, own: dict[str, Any], path: str) -> list[str]:
    if not isinstance(saved, dict):
        return [f"{path}={shown(saved)} is not an object"]
    dot = f"{path}." if path else ""
    found = [f"{dot}{name} is missing" for name in own if name not in saved]
    found += [f"{dot}{shown(name)[1:-1]} is unknown" for name in saved if name not in own]
    for name in own:
        found += misfits(saved[name], own[name], f"{dot}{name}") if name in saved else []
    return found


def _fits(saved: Any, own: Any) -> bool:
    if own is None:
        flat = isinstance(saved, dict) and all(each is None or _number(each) for each in saved.values())
        return saved is None or _number(saved) or flat
    if isinstance(own, bool | str):
        return type(saved) is type(own)
    if isinstance(own, int):
        return _number(saved) and isinstance(saved, int) and 0 <= saved <= LARGEST_COUNT
    if isinstance(own, list):
        return isinstance(saved, list) and all(map(_number, saved))
    return _number(saved)


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST and (isinstance(value, int) or math.isfinite(value))


def _expected(own: Any) -> str:
    names = {bool: "true or false", str: "text", int: "a count", list: "a list of finite numbers"}
    return names.get(type(own), "a finite number of a size that a run can have")
