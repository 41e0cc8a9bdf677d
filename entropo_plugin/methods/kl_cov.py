"""KL-Cov: the tokens of highest covariance pay for leaving pi_old (arXiv 2505.22617, eq. 10, 13, 14)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.control import Anneal, Coefficient
from entropo_plugin.control.settings import check_end
from entropo_plugin.fields import group, key
from entropo_plugin.methods.base import Tokens
from entropo_plugin.methods.covariance import SCOPE, SCOPES, SEEDED, CovarianceMethod, annealed
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import ResponseKeys, kl_cov, kl_penalty, micro_top, select_top

PAPER = "arXiv 2505.22617"


@dataclass(frozen=True)
class KlCov:
    """KL-Cov: the tokens of highest covariance pay for leaving pi_old.

    `anneal` moves `beta`, `anneal_ratio` moves `ratio`.
    """

    ratio: float = key(
        2e-3, "share of the response tokens; the paper: 2e-3 at 7B, 2e-4 at 32B", low=0.0, high=1.0, source=PAPER
    )
    beta: float = key(1.0, "weight of the penalty", low=0.0, high=1e3, source=PAPER)
    penalty: str = key(
        "abs",
        "abs: |d|; k2: d^2 / 2; k3: exp(d) - 1 - d; with d = log p - log p_old",
        choices=("abs", "k2", "k3"),
        source="abs: the authors' code; k2, k3: ours",
    )
    seed: int = key(0, "seed that orders tokens of equal covariance", low=0, high=2**31 - 1, when=SEEDED)
    scope: str = key("global", SCOPE, choices=SCOPES)
    anneal: Anneal = group(Anneal)
    anneal_ratio: Anneal = group(Anneal)


@register
class KlCovMethod(CovarianceMethod):
    """Behind its own loss the surrogate without a clip and with the penalty; else the penalty on top of the loss."""

    name, title, node, settings_type = "kl_cov", "KL-Cov", "kl_cov", KlCov
    loss_mode, acts_on = "entropo_kl_cov", "penalised"

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        check_end("entropo.kl_cov.anneal.end", settings.kl_cov.anneal.end, 1000)
        check_end("entropo.kl_cov.anneal_ratio.end", settings.kl_cov.anneal_ratio.end, 1)

    @property
    def penalises(self) -> bool:
        return not self.owns_loss

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.host.updates == 1:
            yield (
                "KL-Cov cannot act with one optimizer step per rollout batch, where the ratio is 1."
                f"{self.host.remedy('updates')}"
            )

    def coefficients(self) -> dict[str, Coefficient]:
        own = self.settings
        return {
            "ratio": annealed("KL-Cov's ratio", own.ratio, own.anneal_ratio, "entropo.kl_cov.ratio"),
            "beta": annealed("KL-Cov's beta", own.beta, own.anneal, "entropo.kl_cov.beta"),
        }

    def choose(self, cov: Tensor, mask: Tensor, order: ResponseKeys, c: Mapping[str, float]) -> Tensor:
        return select_top(cov, mask, c["ratio"], order)

    def select_micro(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        return micro_top(tokens.log_prob, tokens.advantage, tokens.mask, c["ratio"])

    def clip_bounds(self, c: Mapping[str, float]) -> dict[str, Any]:
        # its loss has no clip
        return {"low": math.inf, "high": math.inf, "dual": math.inf}

    def loss(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        assert selected is not None
        return kl_cov(
            tokens.log_prob,
            tokens.old_log_prob,
            tokens.advantage,
            tokens.mask,
            selected,
            beta=c["beta"],
            kind=self.settings.penalty,
            weight=tokens.weight,
            weigh_penalty=self.selects == "micro_batch",
        )

    def penalty(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        assert selected is not None
        fields = tokens.log_prob, tokens.old_log_prob, tokens.mask
        return kl_penalty(*fields, selected, c["beta"], self.settings.penalty)

    def idle(self) -> dict[str, str]:
        return {
            "entropo/selection/share": "KL-Cov selected no token: ratio times the number of tokens is below 1. Raise "
            "entropo.kl_cov.ratio."
        }

    def describe(self) -> str:
        return self.title if self.owns_loss else f"{self.title}'s penalty on {self.settings.ratio:g} of the tokens"
