"""QAE: a quantile of the group's rewards as the baseline in place of the mean (arXiv 2509.22611)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.fields import ConfigError, key
from entropo_plugin.methods.estimator import EstimatorMethod
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import group_quantile, group_std, quantile_rank

PAPER = "arXiv 2509.22611"


@dataclass(frozen=True)
class QuantileBaseline:
    """QAE: the baseline is the quantile `quantile` of a prompt's rewards."""

    quantile: float = key(0.4, "quantile of the group's rewards, above 0 and below 1", low=0.0, high=1.0, source=PAPER)
    eps: float = key(1e-6, "added to the group's standard deviation", low=0.0, high=1.0, source=PAPER)


@register
class QuantileBaselineMethod(EstimatorMethod):
    """``A = (R - Q_K) / (std + eps)``: rare successes of hard prompts, rare failures of easy ones, 0 for the rest."""

    name, title, node, settings_type = "quantile_baseline", "QAE", "quantile_baseline", QuantileBaseline
    estimator = "quantile_baseline"

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        share = settings.quantile_baseline.quantile
        if not 0 < share < 1:
            raise ConfigError(
                f"entropo.quantile_baseline.quantile={share}: the smallest or the largest reward is no baseline. Set "
                "entropo.quantile_baseline.quantile to a number between 0 and 1."
            )

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.host.group_size == 1:
            yield (
                f"one response to a prompt: {self.name} compares the responses to one prompt, so every advantage will "
                f"be 0 and nothing is learned.{self.host.remedy('group_size')}"
            )
        else:
            yield from self._extreme()

    def _extreme(self) -> Iterator[str]:
        """A quantile that is an end of so few rewards."""
        size, share = self.host.group_size, self.settings.quantile
        end = {1: ("smallest", "below"), size: ("largest", "above")}.get(quantile_rank(share, size))
        if end is not None:
            yield (
                f"entropo.quantile_baseline.quantile={share:g} of {size} responses is the {end[0]} of their rewards: "
                f"no response is {end[1]} its baseline. Set a quantile nearer to 0.5, or more responses to a prompt."
            )

    def baseline(self, rewards: Tensor, group: Tensor) -> Tensor:
        own = self.settings
        level = group_quantile(rewards, group, own.quantile)
        return (rewards - level) / (group_std(rewards, group) + own.eps)

    def describe(self) -> str:
        return f"{self.title} advantages"
