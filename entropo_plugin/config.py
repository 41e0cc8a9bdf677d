"""Every setting of the node ``entropo:``: its unit, bound, default and source, and the parser that refuses the rest.

Sources are named in docs/objectives.md; "ours" marks a choice for which no source decides.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

ESTIMATORS = ("repo_r", "repo_d")
LOSSES = ()
TRAINER_MODES = ("entropo_sync", "entropo_colocate_async", "entropo_separate_async")


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, its value, what is allowed and what to change."""


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


@dataclass(frozen=True)
class Zeta:
    """REPO's coefficient and the law that moves it, once per global step."""

    law: str = key("doubling", "how zeta follows the entropy", choices=("doubling", "fixed"), source="SkyRL, EPRL")
    initial: float = key(1e-3, "zeta of the first step", low=-10.0, high=10.0, source="SkyRL; unknown in the paper")
    low: float | None = key(
        None,
        "smallest |zeta|; null: 1e-4 for REPO-R, 1e-3 for REPO-D",
        low=1e-12,
        high=10.0,
        optional=True,
        source="SkyRL, EPRL",
    )
    high: float | None = key(
        None,
        "largest |zeta|; null: 0.05 for REPO-R, 10 for REPO-D",
        low=1e-12,
        high=100.0,
        optional=True,
        source="SkyRL, EPRL",
    )


@dataclass(frozen=True)
class Repo:
    """REPO: the advantage is modified by the log-probability of the sampled token (EPRL)."""

    base: str = key("rloo", "advantage that REPO modifies", choices=("rloo", "grpo"), source="EPRL, LOOP")
    std: bool = key(False, "with base=grpo: divide by the group's standard deviation", source="verl")
    logp: str = key(
        "current",
        "log-prob that stands in: the current policy's, in the loss, or pi_old's, once a batch",
        choices=("current", "old"),
        source="SkyRL",
    )
    center: bool = key(False, "use log-prob + entropy, the exact form, in place of the raw log-prob", source="EPRL")
    logp_floor: float = key(-20.0, "log-probs below are raised to it", unit="nats", low=-1e4, high=0.0, source="SkyRL")
    min_advantage: float = key(
        0.0, "responses with a smaller |advantage| are dropped (LOOP: 0.01)", low=0.0, high=1e6, source="LOOP"
    )
    zeta: Zeta = group(Zeta)


@dataclass(frozen=True)
class Target:
    """The entropy that the controllers steer to."""

    kind: str = key(
        "initial",
        "initial: the first measured entropy, times `fraction`; value: `value`",
        choices=("initial", "value"),
        source="EPRL",
    )
    value: float | None = key(None, "target for kind=value", unit="nats per token", low=0.0, high=20.0, optional=True)
    fraction: float = key(1.0, "share of the initial entropy for kind=initial", low=1e-3, high=10.0)


@dataclass(frozen=True)
class Settings:
    """The whole node ``entropo:``."""

    repo: Repo = group(Repo)
    target: Target = group(Target)
    host: str = key(
        "auto",
        "auto: verl's own devices; cpu: our CPU host, for machines without an accelerator",
        choices=("auto", "cpu"),
    )
    resume: str = key(
        "strict",
        "strict: refuse a state of another objective; reset: start its controller anew",
        choices=("strict", "reset"),
    )


def parse(node: Mapping[str, Any] | None) -> Settings:
    """Settings from the plain mapping under ``entropo:``.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of its bounds, or settings that contradict.
    """
    settings = _parse_group(Settings, node or {}, "entropo")
    _check_together(settings)
    return settings


def _parse_group(kind: type, node: Any, path: str) -> Any:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}={node!r}: expected a group with the keys {_names(kind)}.")
    known = {f.name: f for f in fields(kind)}
    for name in node:
        if name not in known:
            raise ConfigError(f"{path}.{name}: unknown key.{_closest(str(name), known)} Known here: {_names(kind)}.")
    return kind(**{name: _parse_field(known[name], value, f"{path}.{name}") for name, value in node.items()})


def _parse_field(item: Any, value: Any, path: str) -> Any:
    if "group" in item.metadata:
        return _parse_group(item.metadata["group"], value, path)
    if value is None and item.metadata["optional"]:
        return None
    value = _coerce(item, value, path)
    allowed = _allowed(item)
    if item.metadata["choices"] and value not in item.metadata["choices"]:
        raise ConfigError(f"{path}={value!r}: not allowed. Set {path} to one of {allowed}.")
    if isinstance(value, float | int) and not isinstance(value, bool) and not _within(item, value):
        raise ConfigError(f"{path}={value!r}: out of range. Set {path} to a number in {allowed}.")
    return value


def _coerce(item: Any, value: Any, path: str) -> Any:
    kind = item.type.removesuffix(" | None")
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value).__name__ != kind:
        raise ConfigError(f"{path}={value!r}: expected {_allowed(item)}, got {type(value).__name__}.")
    return value


def _within(item: Any, value: float) -> bool:
    low, high = item.metadata["low"], item.metadata["high"]
    return math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)


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


def _check_together(settings: Settings) -> None:
    zeta, target = settings.repo.zeta, settings.target
    if zeta.low is not None and zeta.high is not None and zeta.low > zeta.high:
        raise ConfigError(f"entropo.repo.zeta.low={zeta.low} exceeds entropo.repo.zeta.high={zeta.high}. Swap them.")
    if target.kind == "value" and target.value is None:
        raise ConfigError("entropo.target.kind=value needs entropo.target.value, in nats per token, in [0, 20].")
    if target.kind == "initial" and target.value is not None:
        raise ConfigError(
            f"entropo.target.value={target.value} is ignored while entropo.target.kind=initial. "
            "Set entropo.target.kind=value, or leave the value out."
        )
    if settings.repo.std and settings.repo.base == "rloo":
        raise ConfigError(
            "entropo.repo.std=true has no meaning with entropo.repo.base=rloo. Set base=grpo, or std=false."
        )


def describe(kind: type = Settings, path: str = "entropo") -> list[tuple[str, Any, str, str, str]]:
    """Rows (key, default, allowed, help, source) for every setting below ``path``."""
    rows: list[tuple[str, Any, str, str, str]] = []
    for item in fields(kind):
        if "group" in item.metadata:
            rows += describe(item.metadata["group"], f"{path}.{item.name}")
        else:
            assert item.default is not MISSING
            rows.append(
                (f"{path}.{item.name}", item.default, _allowed(item), item.metadata["help"], item.metadata["source"])
            )
    return rows
