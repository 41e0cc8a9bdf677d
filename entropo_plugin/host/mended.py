"""Lines of verl that stop a training whatever its settings, put right from outside; each says where and steps aside."""

from __future__ import annotations

import inspect
import logging
from collections.abc import MutableMapping
from types import ModuleType
from typing import Any


class WithoutFlush(logging.LoggerAdapter):
    """A logger that drops ``flush``, a word of print's that ``logging`` refuses."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Message and arguments as :class:`logging.Logger` takes them."""
        return msg, {name: value for name, value in kwargs.items() if name != "flush"}


def mend_separate_async(module: ModuleType) -> None:
    """verl 0.9.1, trainer_separate_async.py:181: ``logger.info(..., flush=True)`` ends runs without hybrid replicas."""
    if "flush=True" in inspect.getsource(module) and not isinstance(module.logger, WithoutFlush):
        module.logger = WithoutFlush(module.logger, {})  # type: ignore[attr-defined]
