"""A host for verl on a machine without an accelerator. Opt-in: nothing here acts unless ``ENTROPO_CPU=1``.

The recipes' key ``entropo.host: cpu`` sets that variable on the driver, and the recipe's
``ray_kwargs.ray_init.runtime_env`` carries it to every Ray process. Each shim names the line of verl 0.9.1 or vLLM
that makes it necessary; those for what verl itself lacks step aside once it registers a ``cpu`` platform of its own.
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
    """Put the platform and the shims in place, once; of verl's own CPU platform only what it leaves open is added."""
    global _active
    if _active:
        return
    from entropo_plugin.hosts.verl.compat import cpu_platform
    from entropo_plugin.hosts.verl.cpu import platform, shims

    if cpu_platform():
        os.environ["VERL_PLATFORM"] = "cpu"
        shims.install_rollouts()
    else:
        platform.register()
        shims.install()
    _active = True


def activate_late() -> None:
    """As :func:`activate`, for a driver that learns from its configuration: verl has chosen a platform by then."""
    os.environ[VARIABLE] = "1"
    activate()
    from verl.plugin.platform import platform_manager

    from entropo_plugin.hosts.verl.cpu.platform import create

    platform_manager._current_platform = create()
