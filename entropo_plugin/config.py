"""The node ``entropo:``: what belongs to no method, and one group for every method's settings.

Sources are arXiv ids or the project that was read; "ours" marks a choice for which no source decides.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from typing import Any

from entropo_plugin.control.settings import Target, check_target
from entropo_plugin.fields import ConfigError, group, key, names, parse_group, rows, shown, switches, tree
from entropo_plugin.methods import registry

__all__ = ["ConfigError", "Monitor", "Root", "defaults", "describe", "kind", "parse", "shown"]

TRAINER_MODES = ("entropo_sync", "entropo_colocate_async", "entropo_separate_async")


@dataclass(frozen=True)
class Monitor:
    """What is written beside the metrics."""

    tokens: int = key(
        0, "tokens a step, those that cost most entropy, written to tokens.jsonl with their text", low=0, high=10_000
    )
    tokens_megabytes: int = key(
        50, "largest size of that file; then the oldest steps go", unit="MB", low=1, high=500, when="tokens"
    )
    folder: str | None = key(
        None, "folder of that file; null: beside verl's log (docs/report.md)", optional=True, when="tokens"
    )


@dataclass(frozen=True)
class Root:
    """What belongs to no method; :func:`kind` adds the methods' groups."""

    methods: tuple[str, ...] = names("methods that run, in the order in which they shape advantages")
    chosen: dict[str, bool] = switches("methods that +entropo=NAME chose; merged where several are chosen")
    target: Target = group(Target)
    idle_steps: int = key(
        20, "steps without effect after which a method is reported; 0: never", unit="steps", low=0, high=10**7
    )
    monitor: Monitor = group(Monitor)
    host: str = key(
        "auto",
        "auto: the host's own devices; cpu: our CPU host, for machines without an accelerator",
        choices=("auto", "cpu"),
    )
    nan_reward: str = key(
        "stop",
        "a response whose reward or advantage is NaN or infinite; stop: the training ends before the update; drop: the "
        "update, every baseline and every statistic go without it",
        choices=("stop", "drop"),
    )
    resume: str = key(
        "strict",
        "strict: refuse a state of another run's methods; reset: restart the controllers",
        choices=("strict", "reset"),
    )


# Settings of earlier versions, and what replaces them; VALUE is what was set.
REPLACED = {"covariance": "Write entropo.methods=[VALUE], or add +entropo=VALUE: it composes with the loss that runs."}


def kind() -> type[Root]:
    """The dataclass of the whole node: the root's settings and a group for every known method."""
    return _kind(tuple(registry.groups().items()))


@functools.cache
def _kind(groups: tuple[tuple[str, type], ...]) -> type[Root]:
    # Any: the annotations of this module's dataclasses are text
    fields: list[Any] = [(name, each.__name__, group(each)) for name, each in groups]
    return make_dataclass("Settings", fields, bases=(Root,), frozen=True)


def parse(node: Mapping[str, Any] | None) -> Any:
    """Settings from the plain mapping under ``entropo:``, one attribute for each group.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of its bounds, or settings that contradict.
    """
    node = {} if node is None else node
    for name, words in REPLACED.items():
        if isinstance(node, Mapping) and name in node:
            text = shown(node[name]).strip("'\"")
            raise ConfigError(f"entropo.{name}={text}: this key was removed. {words.replace('VALUE', text)}")
    settings: Any = parse_group(kind(), node, "entropo")
    check_target(settings.target)
    for name, method in registry.known().items():
        if registry.is_ours(method) or name in settings.methods or settings.chosen.get(name):
            method.check_settings(settings)
    return settings


def defaults() -> dict[str, Any]:
    """Every setting with its default, as Hydra composes it; ``host`` is left out, +entropo_host=cpu sets it."""
    return {name: value for name, value in tree(kind()).items() if name != "host"}


def describe(of: type | None = None, path: str = "entropo") -> list[tuple[str, Any, str, str, str]]:
    """Rows (key, default, allowed, help, source) for every setting below ``path``."""
    return rows(of or kind(), path)
