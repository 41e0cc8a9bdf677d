"""Says once when a run's numbers go wrong, and once when they are right again. The metrics say it every step."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("entropo_plugin")

# zeta crosses its whole range in 10 doublings
PATIENCE = 20
COLLAPSED = 0.01
EXPLODED = 0.9


class Alarms:
    """Watches a step's metrics on the driver; it changes nothing.

    Args:
        vocabulary: number of tokens that the policy chooses from; the largest possible entropy is its logarithm.
        patience: steps at a bound after which a target counts as out of reach; 0: never.
    """

    def __init__(self, vocabulary: int, patience: int = PATIENCE):
        self.patience = patience
        self.ceiling = math.log(max(2, vocabulary))
        self.on: set[str] = set()
        self.bound: dict[str, int] = {}

    def look(self, step: int, metrics: dict[str, Any]) -> list[str]:
        """Warn about what has begun or ended in this step; returns the sentences."""
        now = dict(self._numbers(metrics)) | dict(self._bounds(metrics))
        said = [f"step {step}: {now[name]}" for name in now if name not in self.on]
        said += [f"step {step}: {name} has ended." for name in sorted(self.on - set(now))]
        self.on = set(now)
        for sentence in said:
            logger.warning("entropo_plugin: %s", sentence)
        return said

    def _numbers(self, metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
        broken = metrics.get("entropo/tokens/nonfinite_share", 0)
        if broken > 0:
            yield "broken numbers", f"{broken:.2%} of the tokens have a value that is not finite. {FIND}"
        lost = metrics.get("entropo/nonfinite/log_probs", 0)
        if lost > 0:
            yield "broken update", f"{lost:.2%} of the tokens have a NaN or infinite log-prob in the update. {LOGITS}"
        if metrics.get("entropo/tokens/count") == 0:
            yield "empty responses", "no response holds a token; the step carries no signal, controllers stand still."
        if metrics.get("entropo/tokens/truncated_share") == 1:
            yield (
                "truncation",
                "every response was cut at data.max_response_length. Raise it.",
            )
        entropy = metrics.get("entropo/entropy/token_mean")
        if entropy is not None and entropy < COLLAPSED:
            yield "collapse", f"entropy has collapsed to {entropy:.2g} nats per token: nothing is left to explore with."
        if entropy is not None and entropy > EXPLODED * self.ceiling:
            words = f"{entropy:.3g} nats per token, of at most {self.ceiling:.3g}: the policy is turning to noise."
            yield "explosion", f"entropy has exploded to {words}"

    def _bounds(self, metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for key in [key for key in metrics if key.startswith("entropo/") and key.endswith("_at_bound")]:
            name = key.removeprefix("entropo/").removesuffix("_at_bound")
            self.bound[name] = self.bound.get(name, 0) + 1 if metrics[key] == 1 else 0
        for name, steps in self.bound.items():
            if self.patience and steps >= self.patience:
                words = f"{name} has stood at its bound for {self.patience} steps. {REACH}"
                yield f"{name} at its bound", words.format(keys=BOUNDS.get(name, "its bounds"))


FIND = "They are left out of every statistic. Find the cause in the model's, the rollout's or the reward's numbers."
LOGITS = "Look at what moves the model's logits: learning rate, coefficients, dtype."
REACH = "The target is out of its reach: widen {keys}, or set entropo.target nearer to the measured entropy."
BOUNDS = {
    "zeta": "entropo.repo.zeta.high",
    "clip_high": "entropo.adapo.clip_high.low and high",
    "entropy_coeff": "entropo.entropy_coeff.high",
    "pull": "entropo.neutral",
}
