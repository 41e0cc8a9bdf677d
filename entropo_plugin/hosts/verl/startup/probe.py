"""What a process that only imports verl knows of us.

Standard library and verl alone: ``entropo doctor`` sends the text of this file to a fresh process and to a Ray worker.
A check that imported us could not tell whether verl does.
"""

from __future__ import annotations

from typing import Any


def known() -> dict[str, Any]:
    """Import verl and its registries, as a training's processes do, and say what is in them."""
    import sys

    import verl.trainer.ppo.v1 as v1
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
    from verl.utils.device import get_device_name

    hooks = sys.modules.get("entropo_plugin.hosts.verl.startup.import_hooks")
    return {
        "loaded": "entropo_plugin.plugin" in sys.modules,
        "estimators": sorted(map(str, ADV_ESTIMATOR_REGISTRY)),
        "losses": sorted(map(str, POLICY_LOSS_REGISTRY)),
        "trainer modes": sorted(v1.trainer_base.TRAINER_REGISTRY),
        "failures": dict(hooks.failures) if hooks else {},
        "platform": get_device_name(),
        **_switch(),
    }


def _switch() -> dict[str, Any]:
    """verl's own switch for plugins, and why ours cannot be loaded where the switch lets it in."""
    import os
    from importlib.metadata import entry_points

    switch = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    allowed = switch == "auto" or "entropo" in [name.strip() for name in switch.split(",")]
    ours = [point for point in entry_points(group="verl.plugins") if point.name == "entropo"]
    error = _error(ours[0]) if allowed and ours else None
    return {"switch": switch, "allowed": allowed, "installed": bool(ours), "error": error}


def _error(point: Any) -> str | None:
    """The error of importing our plugin, with the place; verl itself logs it at DEBUG only."""
    import traceback

    try:
        point.load()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
    return None
