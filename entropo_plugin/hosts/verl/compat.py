"""What differs between versions of verl: what it does by itself, so that our workaround steps aside, and what we fix.

patches/ proposes each of these to verl.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, MutableMapping
from types import ModuleType
from typing import Any


def cpu_platform() -> bool:
    """Whether verl has a CPU platform of its own (patches/0010); asked before ours is registered."""
    from verl.plugin.platform import PlatformRegistry

    found = PlatformRegistry.get("cpu")
    return found is not None and not found.__module__.startswith("entropo_plugin")


def checkpoint_hooks() -> bool:
    """Whether a checkpoint callback is called before the resume marker and after a load (patches/0009)."""
    from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

    return hasattr(CheckpointCallback, "on_before_save") and hasattr(CheckpointCallback, "on_load")


def exact_entropy() -> bool:
    """Whether verl computes entropy in fp32 whatever the dtype of the logits (patches/0008)."""
    import torch
    from verl.utils.torch_functional import entropy_from_logits

    return entropy_from_logits(torch.zeros(1, 2, dtype=torch.bfloat16)).dtype == torch.float32


def fed_estimators() -> set[str]:
    """Estimators to which verl's V1 trainers hand inputs of their own (patches/0001); empty on a stock verl."""
    from verl.trainer.ppo.v1 import trainer_base

    return {str(getattr(name, "value", name)) for name in getattr(trainer_base, "ADV_ESTIMATOR_FIELDS", ())}


def own_names() -> set[str]:
    """Those of our estimators and losses that verl has under the same name (patches/0005, 0006)."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    entries = [*ADV_ESTIMATOR_REGISTRY.items(), *POLICY_LOSS_REGISTRY.items()]
    return {name for name, function in entries if hasattr(function, "verls_own")}


def beside(ours: Callable[..., Any], verls: Callable[..., Any] | None, active: Callable[[], bool]) -> Any:
    """``ours`` where verl has nothing of that name; otherwise ours inside our trainer and verl's everywhere else.

    verl passes the inputs that a signature names, so the choice shows verl's; ours takes what it knows of them.
    """
    if verls is None or verls is ours:
        return ours
    if hasattr(verls, "verls_own"):
        return verls  # registered before

    known = inspect.signature(ours).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())

    def choice(*args: Any, **kwargs: Any) -> Any:
        if not active():
            return verls(*args, **kwargs)
        return ours(*args, **{name: value for name, value in kwargs.items() if takes_all or name in known})

    choice.__module__ = ours.__module__
    choice.__signature__ = inspect.signature(verls)  # type: ignore[attr-defined]
    choice.verls_own = verls  # type: ignore[attr-defined]
    return choice


class WithoutFlush(logging.LoggerAdapter):
    """A logger that drops ``flush``, a word of print's that ``logging`` refuses."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Message and arguments as :class:`logging.Logger` takes them."""
        return msg, {name: value for name, value in kwargs.items() if name != "flush"}


def fix_separate_async(module: ModuleType) -> None:
    """verl 0.9.1, trainer_separate_async.py:181: ``logger.info(..., flush=True)`` ends runs without hybrid replicas."""
    if "flush=True" in inspect.getsource(module) and not isinstance(module.logger, WithoutFlush):
        module.logger = WithoutFlush(module.logger, {})  # type: ignore[attr-defined]


def looks_for_value_head(module: ModuleType) -> bool:
    """Whether verl's monkey_patch looks for TRL's value head before it changes it (patches/0012)."""
    return not hasattr(module, "is_trl_available")


def has_value_head() -> bool:
    """Whether this TRL has the class that verl 0.9.1 changes wherever TRL is installed."""
    for name in ("trl.experimental.ppo", "trl"):
        try:
            if hasattr(importlib.import_module(name), "AutoModelForCausalLMWithValueHead"):
                return True
        except ImportError:
            continue
    return False


def fix_value_head(module: ModuleType) -> None:
    """verl 0.9.1, models/transformers/monkey_patch.py:352: beside a TRL without that class every actor ends at once."""
    if looks_for_value_head(module):
        return
    available = module.is_trl_available
    if not hasattr(available, "asks_for_the_class"):

        def asking() -> bool:
            return available() and has_value_head()

        asking.asks_for_the_class = True  # type: ignore[attr-defined]
        module.is_trl_available = asking  # type: ignore[attr-defined]
