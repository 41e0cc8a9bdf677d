"""Runs a function right after a module is first imported, so that registering costs nothing until it is needed."""

from __future__ import annotations

import importlib.abc
import importlib.util
import logging
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

logger = logging.getLogger("entropo_plugin")

failures: dict[str, str] = {}
_waiting: dict[str, list[Callable[[ModuleType], None]]] = {}
_looked_for: set[str] = set()


def after_import(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call ``action(module)`` once ``name`` is imported: now if it already is. Asking twice acts once."""
    if name in sys.modules:
        _run(name, action, sys.modules[name])
        return
    waiting = _waiting.setdefault(name, [])
    if action not in waiting:
        waiting.append(action)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def guarded(label: str, action: Callable[[], Any]) -> None:
    """Run ``action``; a failure is recorded and said at WARNING, because verl hides a plugin's errors at DEBUG."""
    try:
        action()
    except Exception as error:
        failures[label] = f"{type(error).__name__}: {error}"
        logger.warning("entropo_plugin: %s failed (%s). Run `entropo doctor`.", label, failures[label])


def _run(name: str, action: Callable[[ModuleType], None], module: ModuleType) -> None:
    guarded(f"{action.__module__}.{action.__qualname__} after import of {name}", lambda: action(module))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: wraps the loader of a module that somebody waits for."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _waiting or fullname in _looked_for:
            return None
        _looked_for.add(fullname)  # the search below asks this finder again
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            _looked_for.discard(fullname)
        if spec is None or spec.loader is None:
            return None
        _after_exec(spec.loader, fullname)
        return spec


def _after_exec(loader: Any, name: str) -> None:
    """Act when the module is executed: a mere search for its spec must not use the actions up."""
    original = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        original(module)
        for action in _waiting.pop(name, []):
            _run(name, action, module)

    loader.exec_module = exec_module
