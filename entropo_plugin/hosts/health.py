"""Says once when a run's numbers go wrong, and once when they are right again. The metrics say it every step."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from entropo_plugin import metric_names as names

logger = logging.getLogger("entropo_plugin")

# zeta crosses its whole range in 10 doublings
PATIENCE = 20
# How many responses a prompt gets, and how long they may be: the names that a host has for these settings.
SETTINGS = {"samples": "the number of responses to a prompt", "length": "the longest response"}
COLLAPSED = 0.01
EXPLODED = 0.9


class Alarms:
    """Watches a step's metrics on the driver; it changes nothing.

    Args:
        vocabulary: number of tokens that the policy chooses from; the largest possible entropy is its logarithm.
        patience: steps at a bound after which a target counts as out of reach; 0: never.
        samples: responses that the host draws for each prompt.
        keys: by coefficient, the setting that moves its bound.
        settings: what the host calls the settings of :data:`SETTINGS`.
    """

    def __init__(
        self,
        vocabulary: int,
        patience: int = PATIENCE,
        samples: int = 1,
        keys: Mapping[str, str] | None = None,
        settings: Mapping[str, str] = SETTINGS,
    ):
        self.patience, self.samples, self.keys, self.settings = patience, samples, keys or {}, settings
        self.ceiling = math.log(max(2, vocabulary))
        self.on: set[str] = set()
        self.bound: dict[str, int] = {}

    def look(self, step: int, metrics: dict[str, Any]) -> list[str]:
        """Warn about what has begun or ended in this step; returns the sentences."""
        now = dict(self._numbers(metrics)) | dict(self._groups(metrics)) | dict(self._bounds(metrics))
        said = [f"step {step}: {now[name]}" for name in now if name not in self.on]
        said += [f"step {step}: {name} has ended." for name in sorted(self.on - set(now))]
        self.on = set(now)
        for sentence in said:
            logger.warning("entropo_plugin: %s", sentence)
        return said

    def _numbers(self, metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
        broken = metrics.get(names.TOKENS_NONFINITE_SHARE, 0)
        if broken > 0:
            yield "broken numbers", f"{broken:.2%} of the tokens have a value that is not finite. {FIND}"
        lost = metrics.get(names.NONFINITE_LOG_PROBS, 0)
        if lost > 0:
            yield "broken update", f"{lost:.2%} of the tokens have a NaN or infinite log-prob in the update. {LOGITS}"
        if metrics.get(names.TOKENS_COUNT) == 0:
            yield "empty responses", "no response has a token: nothing is learned, the controllers do not move."
        if metrics.get(names.TOKENS_TRUNCATED_SHARE) == 1:
            yield "truncation", f"every response was cut at its length limit. Raise {self.settings['length']}."
        entropy = metrics.get(names.ENTROPY_TOKEN_MEAN)
        if entropy is not None and entropy < COLLAPSED:
            yield "collapse", f"entropy has collapsed to {entropy:.2g} nats per token: exploration is over."
        if entropy is not None and entropy > EXPLODED * self.ceiling:
            words = f"{entropy:.3g} nats per token, of at most {self.ceiling:.3g}: the policy is turning to noise."
            yield "explosion", f"entropy has exploded to {words}"

    def _groups(self, metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
        size = metrics.get(names.DIVERSITY_GROUP_SIZE, metrics.get(names.KEPT_GROUP_SIZE))
        if size == 1 and self.samples > 1:
            words = f"no two responses share a prompt, although {self.settings['samples']}={self.samples}."
            yield "groups of one", f"{words} {UID}"
        if metrics.get(names.DIVERSITY_EQUAL_SHARE) == 1:
            yield "equal rewards", f"all responses to each prompt have the same score. {EQUAL}"
        if names.KEPT_GROUP_SIZE in metrics and names.KEPT_PROMPT_SHARE not in metrics:
            yield "filtered sample", FILTERED

    def _bounds(self, metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for key in [key for key in metrics if key.startswith(names.PREFIX) and key.endswith(names.AT_BOUND)]:
            name = key.removeprefix(names.PREFIX).removesuffix(names.AT_BOUND)
            self.bound[name] = self.bound.get(name, 0) + 1 if metrics[key] == 1 else 0
        for name, steps in self.bound.items():
            if self.patience and steps >= self.patience:
                words = f"{name} has stood at its bound for {self.patience} steps. {REACH}"
                yield f"{name} at its bound", words.format(keys=self.keys.get(name) or "its bounds")


FIND = "They are left out of every statistic. Find the cause in the model's, the rollout's or the reward's numbers."
UID = "A group baseline gives groups of one no signal: let the responses to one prompt have the same uid."
EQUAL = "A group baseline gives no gradient: look at the reward function, or take prompts of another difficulty."
FILTERED = (
    "algorithm.filter_groups removes prompts, and verl does not report their scores for this metric: pass_at, "
    "mixed_share and equal_share of everything sampled are not logged. Set algorithm.filter_groups.metric=reward."
)
LOGITS = "Look at what moves the model's logits: learning rate, coefficients, dtype."
REACH = "The target is out of its reach: widen {keys}, or set entropo.target nearer to the measured entropy."
