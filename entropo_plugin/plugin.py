"""What verl imports by itself (entry point group ``verl.plugins``), in every process: registers, and says if it fails.

verl logs a plugin that cannot be imported at DEBUG and goes on without it. So nothing of ours is imported at the head
of this file: whatever is broken is said here first.
"""

from __future__ import annotations

import logging

SUPPORTED = ("0.9.1", "0.10")


def register() -> None:
    """Register everything once per process; calling again changes nothing."""
    from entropo_plugin.hosts.verl.startup.registration import register_all

    register_all(supported=unsupported() is None)


def unsupported() -> str | None:
    """None when verl's version is in the supported range, otherwise a sentence that says what to install."""
    from packaging.version import Version

    low, high = map(Version, SUPPORTED)
    installed = verl_version()
    if low <= Version(installed) < high:
        return None
    return (
        f"verl {installed} is installed, entropo_plugin supports verl>={low},<{high}. "
        f"Install a supported verl (pip install 'verl>={low},<{high}') or another version of entropo-plugin."
    )


def verl_version() -> str:
    """Version of the verl that is running; it is set before verl loads its plugins."""
    import verl

    return str(verl.__version__)


try:
    register()
except Exception as error:
    logging.getLogger("entropo_plugin").warning(
        "entropo_plugin could not be loaded, and verl goes on without it: %s: %s. Run `entropo doctor`.",
        type(error).__name__,
        error,
    )
    raise
