"""Keys with a bound, a unit and a source, as dataclass fields, and the parser that refuses everything else."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, field, fields
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, its value, what is allowed and what to change."""


# Integers beyond it are no setting, and no float either.
LARGEST = 10**300
QUOTES = "'\""


def shown(value: Any, most: int = 80) -> str:
    """A value for a message, cut where it is long."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def key(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    optional: bool = False,
    source: str = "ours",
) -> Any:
    """One setting: a dataclass field that carries what the parser and the documentation need."""
    about = dict(help=help, unit=unit, low=low, high=high, choices=choices, optional=optional, source=source)
    return field(default=default, metadata=about)


def group(kind: type) -> Any:
    """A nested group of settings with its own defaults."""
    return field(default_factory=kind, metadata={"group": kind})


def parse_group(kind: type, node: Any, path: str) -> Any:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}={shown(node)}: expected a group with the keys {_names(kind)}.")
    known = {f.name: f for f in fields(kind)}
    for name in node:
        if name not in known:
            where = f"{path}.{shown(name).strip(QUOTES)}"
            raise ConfigError(f"{where}: unknown key.{_closest(str(name)[:99], known)} Known here: {_names(kind)}.")
    return kind(**{name: _parse_field(known[name], value, f"{path}.{name}") for name, value in node.items()})


def _parse_field(item: Any, value: Any, path: str) -> Any:
    if "group" in item.metadata:
        return parse_group(item.metadata["group"], value, path)
    if value is None and item.metadata["optional"]:
        return None
    value = _coerce(item, value, path)
    allowed = _allowed(item)
    if item.metadata["choices"] and value not in item.metadata["choices"]:
        raise ConfigError(f"{path}={shown(value)}: not allowed. Set {path} to one of {allowed}.")
    if isinstance(value, float | int) and not isinstance(value, bool) and not _within(item, value):
        raise ConfigError(f"{path}={shown(value)}: out of range. Set {path} to a number in {allowed}.")
    return value


def _coerce(item: Any, value: Any, path: str) -> Any:
    kind = item.type.removesuffix(" | None")
    if kind == "float" and type(value) is int and abs(value) < LARGEST:
        value = float(value)
    if type(value).__name__ != kind:
        raise ConfigError(f"{path}={shown(value)}: expected {_allowed(item)}, got {type(value).__name__}.")
    return value


def _within(item: Any, value: float) -> bool:
    low, high = item.metadata["low"], item.metadata["high"]
    finite = abs(value) < LARGEST and math.isfinite(value)
    return finite and (low is None or value >= low) and (high is None or value <= high)


def _allowed(item: Any) -> str:
    about = item.metadata
    if about["choices"]:
        return " | ".join(about["choices"])
    if about["low"] is not None:
        unit = f" {about['unit']}" if about["unit"] else ""
        return f"[{about['low']:g}, {about['high']:g}]{unit}" + (" or null" if about["optional"] else "")
    return str(item.type)


def _names(kind: type) -> str:
    return ", ".join(f.name for f in fields(kind))


def _closest(name: str, known: Mapping[str, Any]) -> str:
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {match[0]}?" if match else ""


def rows(kind: type, path: str) -> list[tuple[str, Any, str, str, str]]:
    """Rows (key, default, allowed, help, source) for every setting below ``path``."""
    found: list[tuple[str, Any, str, str, str]] = []
    for item in fields(kind):
        if "group" in item.metadata:
            found += rows(item.metadata["group"], f"{path}.{item.name}")
        else:
            assert item.default is not MISSING
            found.append(
                (f"{path}.{item.name}", item.default, _allowed(item), item.metadata["help"], item.metadata["source"])
            )
    return found
