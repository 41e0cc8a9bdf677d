"""What other processes than the doctor's know of us: a fresh one that only imports verl, and a Ray worker."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from entropo_plugin.config import TRAINER_MODES
from entropo_plugin.hosts.verl.startup.finding import Finding
from entropo_plugin.methods.registry import estimators, losses

PROBE = Path(__file__).with_name("probe.py")


def fresh_process() -> Iterator[Finding]:
    """Asked in a process of its own: this one has imported what it would look for."""
    source = f"{PROBE.read_text()}\nimport json, warnings\nwarnings.simplefilter('ignore')\nprint(json.dumps(known()))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        yield Finding("a process that imports verl", f"ends with {last}", "repair the installation of verl")
        return
    yield from _registration("a process that imports verl", json.loads(done.stdout.splitlines()[-1]))


def _expected() -> dict[str, Any]:
    return {"estimators": [*estimators()], "losses": [*losses()], "trainer modes": [*TRAINER_MODES]}


def _registration(where: str, known: dict[str, Any]) -> Iterator[Finding]:
    """What of ours a process knows, and if it lacks something, why."""
    reason = _reason(known)
    if reason:
        yield Finding(where, *reason)
    for kind, expected in _expected().items():
        missing = [name for name in expected if name not in known[kind]]
        words = f"{kind} missing: {', '.join(missing)}" if missing else f"{kind} registered: {', '.join(expected)}"
        yield Finding(where, words, (reason[1] if reason else "reinstall entropo-plugin there") if missing else "")
    for name, error in known["failures"].items():
        yield Finding(where, f"{name} failed: {error}", "report it with this line, or reinstall entropo-plugin")


def _reason(known: dict[str, Any]) -> tuple[str, str] | None:
    """Why verl did not load us, and what to do; None when it did."""
    if not known["installed"]:
        words = "verl finds no plugin named entropo in the entry point group verl.plugins"
        return words, "pip install entropo-plugin there"
    if not known["allowed"]:
        words = f"VERL_USE_EXTERNAL_PLUGINS={known['switch']}: verl loads no plugin named entropo"
        return words, "unset VERL_USE_EXTERNAL_PLUGINS, set it to auto, or add entropo to it"
    if known["error"]:
        return f"the plugin cannot be imported: {known['error']}", "fix what the error names, or reinstall it there"
    return None


def ray_worker() -> Iterator[Finding]:
    """Whether a Ray worker finds verl and us, as the driver does."""
    import ray

    mine = not ray.is_initialized()
    if mine:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        known = ray.get(ray.remote(_probe()).remote(), timeout=120)
        yield from _registration("Ray worker", known)
        yield Finding("Ray worker", f"device platform {known['platform']}")
    finally:
        if mine:
            ray.shutdown()


def _probe() -> Callable[[], dict[str, Any]]:
    """The probe as a function that travels by value: the worker need not have this package."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(PROBE.read_text(), str(PROBE), "exec"), namespace)
    return namespace["known"]
