"""Keys with a bound, a unit and a source, as dataclass fields, and the parser that refuses everything else."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
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
    when: str = "",
) -> Any:
    """One setting: a dataclass field that carries what the parser and the documentation need.

    Args:
        when: what the settings beside it must be for it to be read: ``law=additive|pi``, ``tokens`` (neither 0 nor
            false), or several with ``and`` between them; empty: always.
    """
    about = dict(help=help, unit=unit, low=low, high=high, choices=choices, optional=optional, source=source)
    return field(default=default, metadata=about | {"when": when})


def names(help: str) -> Any:
    """A setting that is a list of names; parsed to a tuple."""
    return field(default=(), metadata={"help": help, "parse": _parse_names, "allowed": "a list of names"})


def switches(help: str) -> Any:
    """A setting that is a mapping of names to true or false, which Hydra merges where a list would be replaced."""
    about = {"help": help, "parse": _parse_switches, "allowed": "a mapping of names to true or false"}
    return field(default_factory=dict, metadata=about)


def _parse_names(value: Any, path: str) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ConfigError(f"{path}={shown(value)}: expected a list of names. Write {path}=[NAME].")


def _parse_switches(value: Any, path: str) -> dict[str, bool]:
    if isinstance(value, Mapping) and all(isinstance(n, str) and isinstance(on, bool) for n, on in value.items()):
        return dict(value)
    raise ConfigError(f"{path}={shown(value)}: expected a mapping of names to true or false. Write {path}.NAME=true.")


def group(kind: type, when: str = "") -> Any:
    """A nested group of settings with its own defaults; ``when`` as for :func:`key`."""
    return field(default_factory=kind, metadata={"group": kind, "when": when})


def parse_group(kind: type, node: Any, path: str) -> Any:
    """The dataclass ``kind`` from a mapping; ``path`` is how errors call it.

    Raises:
        ConfigError: an unknown key, or a value that is not allowed.
    """
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}={shown(node)}: expected a group with the keys {_names(kind)}.")
    known = {f.name: f for f in fields(kind)}
    for name in node:
        if name not in known:
            where = f"{path}.{shown(name).strip(QUOTES)}"
            if replaced := getattr(kind, "REPLACED", {}).get(name):
                raise ConfigError(f"{where}: this key was removed. Set {replaced}.")
            raise ConfigError(f"{where}: unknown key.{_closest(str(name)[:99], known)} Known here: {_names(kind)}.")
    return kind(**{name: _parse_field(known[name], value, f"{path}.{name}") for name, value in node.items()})


def _parse_field(item: Any, value: Any, path: str) -> Any:
    if "group" in item.metadata:
        return parse_group(item.metadata["group"], value, path)
    if "parse" in item.metadata:
        return item.metadata["parse"](value, path)
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
    kind = _type_name(item)
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
        return " | ".join(about["choices"]) + (" | null" if about["optional"] else "")
    if about["low"] is not None:
        unit = f" {about['unit']}" if about["unit"] else ""
        return f"[{about['low']:g}, {about['high']:g}]{unit}" + (" or null" if about["optional"] else "")
    return _type_name(item) + (" or null" if about["optional"] else "")


def _type_name(item: Any) -> str:
    """``float`` for ``float | None``: an annotation is text or a type, as the module that declares it has it."""
    text = item.type.__name__ if isinstance(item.type, type) else str(item.type)
    return text.removesuffix(" | None")


def check_declared(kind: type, path: str) -> None:
    """Refuse a class that is no group of settings.

    Raises:
        TypeError: names the field that lacks a default with a bound, or whose default is not allowed.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{path}: {kind.__qualname__} is no dataclass")
    for item in fields(kind):
        name = f"{path}.{item.name}"
        if not item.metadata:
            raise TypeError(f"{name} is a plain field: declare it with entropo_plugin.fields.key or group")
        for neighbour, _ in _conditions(item.metadata.get("when", "")):
            if neighbour not in kind.__dataclass_fields__:
                raise TypeError(f"{name} is read when {neighbour!r}, and there is no such setting beside it")
        if "group" in item.metadata:
            check_declared(item.metadata["group"], name)
    parse_group(kind, tree(kind), path)


def _names(kind: type) -> str:
    return ", ".join(f.name for f in fields(kind))


def _closest(name: str, known: Mapping[str, Any]) -> str:
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {match[0]}?" if match else ""


def rows(kind: type, path: str) -> list[tuple[str, Any, str, str, str]]:
    """Rows (key, default, allowed, help, source) for every setting below ``path``."""
    listed: list[tuple[str, Any, str, str, str]] = []
    for item in fields(kind):
        about, name = item.metadata, f"{path}.{item.name}"
        if "group" in about:
            listed += rows(about["group"], name)
        elif "parse" in about:
            listed.append((name, _plain_default(item), about["allowed"], about["help"], "ours"))
        else:
            listed.append((name, item.default, _allowed(item), about["help"], about["source"]))
    return listed


def _plain_default(item: Any) -> Any:
    """The default as YAML writes it."""
    return {} if item.default is MISSING else list(item.default)


def tree(kind: type) -> dict[str, Any]:
    """Every setting of a group with its default, as plain values: what Hydra composes."""
    plain: dict[str, Any] = {}
    for item in fields(kind):
        if "group" in item.metadata:
            plain[item.name] = tree(item.metadata["group"])
        else:
            plain[item.name] = _plain_default(item) if "parse" in item.metadata else item.default
    return plain


def changed(settings: Any, path: str = "") -> list[tuple[str, Any]]:
    """Dotted paths and values of the settings that differ from their defaults."""
    differing: list[tuple[str, Any]] = []
    for item in fields(settings):
        value, name = getattr(settings, item.name), f"{path}{item.name}"
        if "group" in item.metadata:
            differing += changed(value, f"{name}.")
        else:
            default = {} if item.default is MISSING else item.default
            differing += [(name, value)] if value != default else []
    return differing


def _conditions(when: str) -> list[tuple[str, list[str]]]:
    """Each neighbour and the values that it may have; no values: neither 0 nor false."""
    parts = [part.partition("=") for part in when.split(" and ")] if when else []
    return [(name, values.split("|") if values else []) for name, _, values in parts]


def dormant(settings: Any, path: str = "") -> dict[str, str]:
    """Dotted paths of the settings that nothing reads beside their present neighbours, and what would have them read.

    A path of a group stands for all that is below it.
    """
    unread: dict[str, str] = {}
    for item in fields(settings):
        name, unmet = f"{path}{item.name}", _unmet(item.metadata.get("when", ""), settings, f"entropo.{path}")
        if unmet:
            unread[name] = unmet
        elif "group" in item.metadata:
            unread |= dormant(getattr(settings, item.name), f"{name}.")
    return unread


def _unmet(when: str, settings: Any, path: str) -> str:
    """The first condition that does not hold, as a sentence; empty where all hold."""
    for name, values in _conditions(when):
        present = plain(getattr(settings, name))
        if values and present not in values:
            return f"Only {path}{name}={' | '.join(values)} reads it, and here that is {present}."
        if not values and present in ("0", "false"):
            return f"It is read while {path}{name} is {'true' if present == 'false' else 'above 0'}."
    return ""


def plain(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
