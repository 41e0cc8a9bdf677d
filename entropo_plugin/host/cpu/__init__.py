"""A host for verl on a machine without an accelerator. Opt-in: nothing here acts unless ``ENTROPO_CPU=1``.

The recipes' key ``entropo.host: cpu`` sets that variable on the driver, and the recipe's
``ray_kwargs.ray_init.runtime_env`` carries it to every Ray process. Each shim names the line of verl 0.9.1 or vLLM
that makes it necessary; all of them step aside once verl registers a ``cpu`` platform of its own.
"""

from __future__ import annotations

import os

VARIABLE = "ENTROPO_CPU"
_active = False


def asked() -> bool:
    """Whether this process was told to run on the CPU."""
    return os.environ.get(VARIABLE) == "1"


def active() -> bool:
    """Whether the shims are in place in this process."""
    return _active


def activate() -> None:
    """Put the platform and the shims in place, once, unless verl has a CPU platform of its own."""
    global _active
    from verl.plugin.platform import PlatformRegistry

    if _active or PlatformRegistry.get("cpu") is not None:
        return
    from entropo_plugin.host.cpu import platform, shims

    platform.register()
    shims.install()
    _active = True


def activate_late() -> None:
    """As :func:`activate`, for a driver that learns from its configuration: verl has chosen a platform by then."""
    os.environ[VARIABLE] = "1"
    activate()
    if _active:
        from verl.plugin.platform import platform_manager

        from entropo_plugin.host.cpu.platform import create

        platform_manager._current_platform = create()
