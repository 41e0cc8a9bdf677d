"""Refuses a setting that nothing reads: of a method that does not run, or of another law, band or loss than runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from entropo_plugin.fields import ConfigError, changed, dormant
from entropo_plugin.methods.base import Method
from entropo_plugin.methods.registry import known

# Settings of the root node that are read whatever runs.
ALWAYS = ("methods", "chosen", "idle_steps", "monitor", "host", "nan_reward", "resume")


def check_read(settings: Any, methods: Sequence[Method]) -> None:
    """Refuse a setting that differs from its default and that nothing reads.

    Raises:
        ConfigError: names the key, and what would read it.
    """
    read = list(ALWAYS)
    for method in methods:
        read += method.reads or list(method.groups())
    if any(each.adapts for method in methods for each in method.coefficients().values()):
        read.append("target")
    idle = dormant(settings)
    for path, value in changed(settings):
        if not _under(path, read):
            raise ConfigError(f"entropo.{path}={value}: nothing that runs reads it. {_reader(path)}")
        if reason := _why_unread(path, idle) or _unread(path, methods):
            raise ConfigError(f"entropo.{path}={value}: {reason} Change that, or delete entropo.{path}.")


def _why_unread(path: str, reasons: Mapping[str, str]) -> str:
    return next((reason for prefix, reason in reasons.items() if _under(path, [prefix])), "")


def _unread(path: str, methods: Sequence[Method]) -> str:
    """Why every method that could read a setting leaves it unread."""
    reasons = [_why_unread(path, each.unread()) for each in methods if _under(path, each.reads or each.groups())]
    return reasons[0] if reasons and all(reasons) else ""


def _under(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _reader(path: str) -> str:
    """Who would read a setting, as a sentence."""
    if path.startswith("target"):
        return "No method of this run follows the entropy. Delete it, or add +entropo=NAME with a law that does."
    readers = [name for name, cls in known().items() if _under(path, cls.reads or cls.groups())]
    names = " or ".join(_way(name) for name in readers)
    return f"It is read by {', '.join(readers)}: add {names}, or delete it."


def _way(name: str) -> str:
    """How a method is asked for: only ours have a choice of the group ``entropo``."""
    ours = known()[name].__module__.startswith("entropo_plugin.")
    return f"+entropo={name}" if ours else f"entropo.methods=[{name}]"
