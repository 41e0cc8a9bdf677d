"""Anchored REPO (ours, experimental): the advantage pays for the distance to the reference policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.control import Anneal, Coefficient, Options
from entropo_plugin.control.settings import check_annealing, check_end, check_order
from entropo_plugin.fields import ConfigError, group, key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import repo_anchored

PATH, FOLLOWS = "entropo.anchored", "law=additive|multiplicative"


@dataclass(frozen=True)
class Anchored:
    """Anchored REPO: A - b log(p / p0), p0 the reference policy's probability of the sampled token."""

    b: float = key(0.1, "weight of the anchor in the first step", low=0.0, high=100.0)
    centre: bool = key(False, "subtract the batch mean of log(p / p0), which changes no expected gradient")
    law: str = key(
        "fixed",
        "how b moves; additive: one `delta` up below the entropy's target, one down above it",
        choices=("fixed", "annealed", "additive", "multiplicative"),
    )
    low: float = key(0.0, "smallest b of a law that follows the entropy", low=0.0, high=100.0, when=FOLLOWS)
    high: float = key(1.0, "largest b of a law that follows the entropy", low=0.0, high=100.0, when=FOLLOWS)
    delta: float = key(0.01, "law=additive: one step's change", low=0.0, high=10.0, when="law=additive")
    factor: float = key(1.1, "law=multiplicative: one step's factor", low=1.0, high=10.0, when="law=multiplicative")
    anneal: Anneal = group(Anneal, when="law=annealed")


@register
class RepoAnchored(Method):
    """``A - b log(p / p0)``, once a batch from pi_old: in expectation the gradient of ``-b KL(p || p0)``."""

    name, title, node, settings_type = "repo_anchored", "anchored REPO", "anchored", Anchored

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        own = settings.anchored
        check_order(f"{PATH}.low", own.low, f"{PATH}.high", own.high)
        check_annealing(PATH, own.law, own.anneal)
        check_end(f"{PATH}.anneal.end", own.anneal.end, 100)
        if own.law in ("additive", "multiplicative") and not own.low <= own.b <= own.high:
            raise ConfigError(
                f"{PATH}.b={own.b} lies outside [{own.low}, {own.high}]. Move it, or {PATH}.low and high."
            )

    @property
    def shapes(self) -> str:
        return "driver"

    def needs(self) -> frozenset[str]:
        return frozenset({"ref_log_prob"})

    def coefficients(self) -> dict[str, Coefficient]:
        own = self.settings
        options = Options(factor=own.factor, delta=own.delta, signed=False, anneal=own.anneal)
        return {
            "anchor": Coefficient(
                "anchored REPO's b", own.law, own.b, own.low, own.high, f"{PATH}.high", options, nothing=0.0
            )
        }

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        assert tokens.ref_log_prob is not None
        fields = tokens.advantage, tokens.log_prob, tokens.ref_log_prob
        return repo_anchored(*fields, c["anchor"], tokens.mask, self.settings.centre)

    def idle(self) -> dict[str, str]:
        cause = f"the policy is still its reference, or {PATH}.b is 0. Raise {PATH}.b."
        return {"entropo/shift": f"anchored REPO changed no advantage: {cause}"}
