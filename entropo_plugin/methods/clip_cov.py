"""Clip-Cov: a few random tokens of a band of covariance give no gradient (arXiv 2505.22617, eq. 10-12)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.control import Anneal, Coefficient
from entropo_plugin.control.settings import check_end, check_order
from entropo_plugin.fields import ConfigError, group, key
from entropo_plugin.methods.base import Tokens
from entropo_plugin.methods.covariance import SCOPE, SCOPES, SEEDED, CovarianceMethod, annealed
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import ResponseKeys, clip_cov, micro_band, quantile_band, select_band

PAPER = "arXiv 2505.22617"


@dataclass(frozen=True)
class ClipCov:
    """Clip-Cov: random tokens of a band of covariance give no gradient; `anneal` moves `ratio`."""

    ratio: float = key(2e-4, "share of the response tokens that is dropped", low=0.0, high=1.0, source=PAPER)
    band: str = key(
        "absolute",
        "absolute: [low, high] in nats; quantile: [low_quantile, high_quantile] of the batch",
        choices=("absolute", "quantile"),
    )
    low: float = key(
        1.0, "band=absolute: smallest covariance", unit="nats", low=-1e6, high=1e6, source=PAPER, when="band=absolute"
    )
    high: float = key(
        5.0, "band=absolute: largest covariance", unit="nats", low=-1e6, high=1e6, source=PAPER, when="band=absolute"
    )
    low_quantile: float = key(
        0.98, "band=quantile: lower quantile of the covariance", low=0.0, high=1.0, when="band=quantile"
    )
    high_quantile: float = key(
        0.9998, "band=quantile: upper quantile of the covariance", low=0.0, high=1.0, when="band=quantile"
    )
    clip_low: float = key(1.0, "lower clip of the ratio", low=0.0, high=1.0, source=PAPER)
    clip_high: float = key(1.0, "upper clip of the ratio", low=0.0, high=100.0, source=PAPER)
    seed: int = key(0, "seed of the choice", low=0, high=2**31 - 1, when=SEEDED)
    scope: str = key("global", SCOPE, choices=SCOPES)
    anneal: Anneal = group(Anneal)


@register
class ClipCovMethod(CovarianceMethod):
    """Behind its own loss PPO's surrogate in [0, 2] without the chosen tokens; else they lose their advantage."""

    name, title, node, settings_type = "clip_cov", "Clip-Cov", "clip_cov", ClipCov
    loss_mode, acts_on = "entropo_clip_cov", "dropped"

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        own = settings.clip_cov
        if own.band == "absolute":
            check_order("entropo.clip_cov.low", own.low, "entropo.clip_cov.high", own.high)
        else:
            names = "entropo.clip_cov.low_quantile", "entropo.clip_cov.high_quantile"
            check_order(names[0], own.low_quantile, names[1], own.high_quantile)
        check_end("entropo.clip_cov.anneal.end", own.anneal.end, 1)
        if own.scope == "micro_batch" and own.band == "quantile":
            raise ConfigError(
                "entropo.clip_cov.scope=micro_batch is verl's own choice, with entropo.clip_cov.band=absolute."
            )

    @property
    def drops(self) -> bool:
        return not self.owns_loss

    def unread(self) -> dict[str, str]:
        words = "It is the clip of Clip-Cov's own policy loss, and this run has another."
        return {} if self.owns_loss else {"clip_cov.clip_low": words, "clip_cov.clip_high": words}

    def coefficients(self) -> dict[str, Coefficient]:
        own = self.settings
        return {"ratio": annealed("Clip-Cov's ratio", own.ratio, own.anneal, "entropo.clip_cov.ratio")}

    def choose(self, cov: Tensor, mask: Tensor, order: ResponseKeys, c: Mapping[str, float]) -> Tensor:
        own = self.settings
        band = own.low, own.high
        if own.band == "quantile":
            band = quantile_band(cov, own.low_quantile, own.high_quantile)
        return select_band(cov, mask, c["ratio"], order, *band)

    def select_micro(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        own = self.settings
        fields = tokens.log_prob, tokens.old_log_prob, tokens.advantage, tokens.mask
        return micro_band(*fields, c["ratio"], (own.low, own.high), (own.clip_low, own.clip_high))

    def clip_bounds(self, c: Mapping[str, float]) -> dict[str, Any]:
        # as verl's clip_cov, it has no dual clip
        return {"low": self.settings.clip_low, "high": self.settings.clip_high, "dual": math.inf}

    def loss(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        assert selected is not None
        fields = tokens.log_prob, tokens.old_log_prob, tokens.advantage, tokens.mask
        low, high = self.settings.clip_low, self.settings.clip_high
        return clip_cov(*fields, selected, weight=tokens.weight, low=low, high=high)

    def idle(self) -> dict[str, str]:
        own = self.settings
        return {
            "entropo/selection/share": "Clip-Cov selected no token: ratio times the number of tokens is below 1, or no "
            f"covariance lies in the band [{own.low}, {own.high}] (entropo/selection/ceiling is the highest that a "
            "token of the largest advantage can have). Set entropo.clip_cov.band=quantile, or raise "
            "entropo.clip_cov.ratio."
        }

    def describe(self) -> str:
        return self.title if self.owns_loss else f"{self.title} drops {self.settings.ratio:g} of the tokens"
