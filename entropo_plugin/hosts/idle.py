"""Says when a method has had no effect for a while, with the likely cause and the key to change."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from entropo_plugin.methods.active import selection_name
from entropo_plugin.methods.base import Method

logger = logging.getLogger("entropo_plugin")


class Idle:
    """Counts for how many steps running each metric that shows an effect has been 0.

    Args:
        methods: what runs; each says which of its metrics show that it acts.
        limit: steps without effect after which it is said; 0: never.
    """

    def __init__(self, methods: Sequence[Method], limit: int):
        self.limit = limit
        self.signs = [
            (method.name, selection_name(methods, method, metric), cause)
            for method in methods
            for metric, cause in method.idle().items()
        ]
        self.count = dict.fromkeys(self.signs, 0)

    def observe(self, metrics: Mapping[str, float]) -> list[str]:
        """Sentences for the methods that reach the limit with this step."""
        sentences = []
        for sign in self.signs:
            _, metric, cause = sign
            self.count[sign] = self.count[sign] + 1 if metrics.get(metric) == 0 else 0
            if self.limit and self.count[sign] == self.limit:
                sentences.append(f"for {self.limit} steps {cause}")
        return sentences

    def report(self, metrics: Mapping[str, float]) -> None:
        """Warn of each of them."""
        for sentence in self.observe(metrics):
            logger.warning("entropo_plugin: %s", sentence)
