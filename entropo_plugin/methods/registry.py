"""Finds methods by name: those of this package, and those that other packages bring."""

from __future__ import annotations

import difflib
import functools
import importlib
import logging
import pkgutil
from importlib.metadata import EntryPoint, entry_points

from entropo_plugin.fields import ConfigError, check_declared, shown
from entropo_plugin.methods.base import Method

logger = logging.getLogger("entropo_plugin")

GROUP = "entropo.methods"
# Modules beside the methods' own files.
PARTS = ("base", "registry", "reading", "active")
# Settings of the root node, which no method may take.
ROOT = ("methods", "chosen", "target", "idle_steps", "monitor", "host", "nan_reward", "resume")

_known: dict[str, type[Method]] = {}
_failures: dict[str, str] = {}
_loaded: set[tuple[str, str]] = set()


def register(method: type[Method]) -> type[Method]:
    """Class decorator: make a method known under its name.

    Raises:
        TypeError, ValueError: it has no name, another class has its name or its settings already, or they are no
            group of settings.
    """
    if not method.name.isidentifier():
        raise ValueError(f"{method.__qualname__}.name={method.name!r}: expected a name such as top_entropy.")
    _check_groups(method)
    other = _known.setdefault(method.name, method)
    if other is not method and (other.__module__, other.__qualname__) != (method.__module__, method.__qualname__):
        raise ValueError(f"{method.__module__}: the method {method.name!r} is {other.__module__}'s already.")
    _known[method.name] = method
    return method


def known() -> dict[str, type[Method]]:
    """Every method that can run in this process, by name: ours, and those of installed packages."""
    _load_ours()
    for entry in _installed():
        if (entry.name, entry.value) not in _loaded:
            _loaded.add((entry.name, entry.value))
            _load(entry)
    return dict(sorted(_known.items()))


@functools.cache
def _installed() -> tuple[EntryPoint, ...]:
    """What other packages bring; read once, because it looks through everything that is installed."""
    return tuple(entry_points(group=GROUP))


@functools.cache
def _load_ours() -> None:
    import entropo_plugin.methods as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in PARTS:
            importlib.import_module(f"{package.__name__}.{module.name}")


def _load(entry: EntryPoint) -> None:
    """A package that fails to import must not stop a run that does not use it."""
    try:
        method = entry.load()
        if not (isinstance(method, type) and issubclass(method, Method)):
            raise TypeError(f"{entry.value} is not a subclass of entropo_plugin.methods.Method")
        if method.name != entry.name:
            raise ValueError(f"the entry point is called {entry.name!r}, its method {method.name!r}")
        register(method)
    except Exception as error:
        package = entry.dist.name if entry.dist else entry.value
        _failures[entry.name] = f"{package} failed to load: {type(error).__name__}: {error}"
        logger.warning("entropo_plugin: method %s: %s", entry.name, _failures[entry.name])


def _check_groups(method: type[Method]) -> None:
    others = [other for other in _known.values() if other.name != method.name]
    taken = {name: kind for other in others for name, kind in other.groups().items()}
    for name, kind in method.groups().items():
        if name in ROOT or taken.get(name, kind) is not kind:
            raise ValueError(f"the settings entropo.{name} exist already")
        check_declared(kind, f"entropo.{name}")


def is_ours(method: type[Method]) -> bool:
    """Whether a method belongs to this package; what another package's says concerns the runs that use it."""
    return method.__module__.startswith("entropo_plugin.")


def find(name: object, path: str = "entropo.methods") -> type[Method]:
    """The method of that name.

    Raises:
        ConfigError: there is none, or its package fails to import; lists the names that exist.
    """
    methods = known()
    if isinstance(name, str) and name in methods:
        return methods[name]
    if isinstance(name, str) and name in _failures:
        raise ConfigError(f"{path}: {name} cannot run, {_failures[name]}. Known here: {', '.join(methods)}.")
    close = difflib.get_close_matches(str(name)[:99], list(methods), n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    raise ConfigError(f"{path}: no method is called {shown(name)}.{guess} Known here: {', '.join(methods)}.")


def groups() -> dict[str, type]:
    """Every group of settings of every method, by its name under ``entropo.``."""
    return {name: kind for method in known().values() for name, kind in method.groups().items()}


def estimators() -> dict[str, type[Method]]:
    """The methods that a host's advantage estimator opens, by the estimator's name."""
    return {method.estimator: method for method in known().values() if method.estimator}


def losses() -> dict[str, type[Method]]:
    """The methods that a host's policy loss opens, by the loss's name."""
    return {method.loss_mode: method for method in known().values() if method.loss_mode}
