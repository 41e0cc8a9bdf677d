"""What verl imports by itself (entry point group ``verl.plugins``), in every process: registers, and says if it fails.

Kept light: estimators and losses are registered right after verl imports its own, trainer modes right after verl
imports its V1 trainers, so that ``import verl`` alone pays for neither.
"""

from __future__ import annotations

from types import ModuleType

from entropo_plugin.hosts.verl.startup.import_hooks import after_import, guarded

SUPPORTED = ("0.9.1", "0.10")


def register() -> None:
    """Register everything once per process; calling again changes nothing."""
    guarded("the start-up check", _guard_start)
    after_import("verl.trainer.main_ppo", _guard_entry)
    if unsupported() is None:
        guarded("the CPU host", _cpu_host)
        after_import("verl.trainer.ppo.core_algos", _algorithms)
        after_import("verl.trainer.ppo.v1", _trainers)


def unsupported() -> str | None:
    """None when verl's version is in the supported range, otherwise a sentence that says what to install."""
    from packaging.version import Version

    low, high = map(Version, SUPPORTED)
    found = verl_version()
    if low <= Version(found) < high:
        return None
    return (
        f"verl {found} is installed, entropo_plugin supports verl>={low},<{high}. "
        f"Install a supported verl (pip install 'verl>={low},<{high}') or another version of entropo-plugin."
    )


def verl_version() -> str:
    """Version of the verl that is running; it is set before verl loads its plugins."""
    import verl

    return str(verl.__version__)


def _guard_start() -> None:
    from entropo_plugin.hosts.verl.startup.guard import install

    install()


def _guard_entry(main_ppo: ModuleType) -> None:
    from entropo_plugin.hosts.verl.startup.guard import guard_entry

    guard_entry(main_ppo)


def _cpu_host() -> None:
    from entropo_plugin.hosts.verl import cpu

    if cpu.asked():
        cpu.activate()


def _algorithms(core_algos: ModuleType) -> None:
    from entropo_plugin.hosts.verl.driver.estimators import register_estimators
    from entropo_plugin.hosts.verl.worker.policy_losses import register_losses

    register_estimators(core_algos)
    register_losses(core_algos)


def _trainers(v1: ModuleType) -> None:
    from entropo_plugin.hosts.verl.driver.trainer import register_trainers

    register_trainers(v1)


register()
