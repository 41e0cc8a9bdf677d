"""What this package adds to a process that imports verl, and when.

Kept light: estimators and losses are registered right after verl imports its own, trainer modes right after verl
imports its V1 trainers, so that ``import verl`` alone pays for neither.
"""

from __future__ import annotations

import importlib
from functools import partial
from types import ModuleType

from entropo_plugin.hosts.verl.startup.import_hooks import after_import, guarded

# What the hooks below import in the driver's and the workers' processes.
LATE = (
    "entropo_plugin.hosts.verl.driver.estimators",
    "entropo_plugin.hosts.verl.worker.policy_losses",
    "entropo_plugin.hosts.verl.driver.trainer",
)


def register_all(supported: bool) -> None:
    """Register everything once per process; on another verl than a supported one, only the check that refuses it."""
    guarded("the start-up check", _guard_start)
    after_import("verl.trainer.main_ppo", _guard_entry)
    if supported:
        guarded("the CPU host", _cpu_host)
        after_import("verl.models.transformers.monkey_patch", _value_head)
        after_import("verl.workers.rollout.replica", _transformers_replica)
        after_import("verl.workers.rollout.base", _transformers_adapter)
        after_import("verl.trainer.ppo.core_algos", _algorithms)
        after_import("verl.trainer.ppo.v1", _trainers)


def import_late() -> None:
    """Import what verl's own imports would bring in later, so that a broken installation is known before Ray starts."""
    for name in LATE:
        guarded(f"import of {name}", partial(importlib.import_module, name))


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


def _value_head(monkey_patch: ModuleType) -> None:
    from entropo_plugin.hosts.verl.compat import fix_value_head

    fix_value_head(monkey_patch)


def _transformers_replica(replica: ModuleType) -> None:
    """``rollout.name=hf``: verl's registry of rollout servers has no transformers server."""
    if "hf" not in replica.RolloutReplicaRegistry._registry:
        replica.RolloutReplicaRegistry.register("hf", _load_replica)


def _load_replica() -> type:
    from entropo_plugin.hosts.verl.hf_rollout import TransformersReplica

    return TransformersReplica


def _transformers_adapter(base: ModuleType) -> None:
    """The trainer's side of ``rollout.name=hf`` (workers/rollout/base.py:89 has no register function)."""
    base._ROLLOUT_REGISTRY.setdefault(("hf", "async"), "entropo_plugin.hosts.verl.hf_rollout.TransformersAdapter")


def _algorithms(core_algos: ModuleType) -> None:
    from entropo_plugin.hosts.verl.driver.estimators import register_estimators
    from entropo_plugin.hosts.verl.worker.policy_losses import register_losses

    register_estimators(core_algos)
    register_losses(core_algos)


def _trainers(v1: ModuleType) -> None:
    from entropo_plugin.hosts.verl.driver.trainer import register_trainers

    register_trainers(v1)
