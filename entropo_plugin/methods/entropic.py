"""EntroPIC: a proportional-integral coefficient on the tokens that the policy is sure of (arXiv 2511.15248)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from entropo_plugin.control import MEASURED, Coefficient, Control, Measured
from entropo_plugin.control.targets import plausible
from entropo_plugin.fields import key
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.objectives import log_ratio, response_only

PAPER, CODE = "arXiv 2511.15248", "yk7333/EntroPIC"


@dataclass(frozen=True)
class Entropic:
    """EntroPIC: gains of the coefficient, and the tokens that it weighs."""

    proportional: float = key(1.0, "gain on this step's H - H*", low=0.0, high=100.0, source=CODE)
    integral: float = key(0.01, "gain on the sum of the earlier steps' H - H*", low=0.0, high=100.0, source=CODE)
    probability: float = key(0.95, "pi_old's probability above which a token counts", low=0.0, high=1.0, source=PAPER)


@register
class EntropicMethod(Method):
    """``loss + alpha mean(-r |A|)`` over the tokens with ``p_old > probability``; alpha in [-1, 1], once a step.

    The mean is over the chosen tokens: the host's mean over all tokens, divided by their share in the rollout batch.
    """

    name, title, node, settings_type = "entropic", "EntroPIC", "entropic", Entropic
    penalises, own_target = True, 0.1

    def __init__(self, settings: Any, host: Any):
        super().__init__(settings, host)
        self.total, self.error, self.step = 0.0, 0.0, 0

    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def check(self) -> Iterator[str]:
        own = self.settings
        if own.proportional == own.integral == 0:
            yield "entropo.entropic.proportional=0 and integral=0: EntroPIC's coefficient stays 0."
        if own.probability == 1:
            yield "entropo.entropic.probability=1: no token is more probable, so EntroPIC chooses none."

    def coefficients(self) -> dict[str, Coefficient]:
        key = "entropo.entropic.proportional and integral"
        return {
            "entropic_alpha": Coefficient("EntroPIC's alpha", MEASURED, low=-1.0, high=1.0, key=key, follows=True),
            "entropic_share": Coefficient("share of the tokens that EntroPIC weighs", MEASURED, high=1.0),
        }

    def measure(self, tokens: Tokens, control: Control, c: Mapping[str, float]) -> dict[str, Measured]:
        kept = tokens.mask.bool()
        share = int((self._sure(tokens) & kept).sum()) / max(1, int(kept.sum()))
        wanted = self._wanted(tokens.step, control)
        alpha = min(1.0, max(-1.0, wanted))
        return {"entropic_alpha": Measured(alpha, alpha != wanted), "entropic_share": Measured(share)}

    def _wanted(self, step: int, control: Control) -> float:
        """The coefficient before its bound; each global step enters the sum once."""
        if control.entropy is None or control.target is None or not plausible(control.entropy):
            return 0.0
        if step != self.step:
            self.total, self.step = self.total + self.error, step
        self.error = control.entropy - control.target
        return float(self.settings.proportional * self.error + self.settings.integral * self.total)

    def _sure(self, tokens: Tokens) -> Tensor:
        return tokens.old_log_prob.exp() > self.settings.probability

    def penalty(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        if c["entropic_share"] == 0:
            return torch.zeros_like(tokens.log_prob)
        ratio = log_ratio(tokens.log_prob, tokens.old_log_prob, tokens.mask).exp()
        push = -ratio * response_only(tokens.advantage, tokens.mask).abs()
        weight = c["entropic_alpha"] / c["entropic_share"]
        return torch.where(self._sure(tokens) & tokens.mask.bool(), weight * push, torch.zeros_like(push))

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "error": self.error, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.error, self.step = float(state["total"]), float(state["error"]), int(state["step"])

    def idle(self) -> dict[str, str]:
        return {
            "entropo/entropic_share": "EntroPIC weighs no token: none is more probable than "
            f"{self.settings.probability:g}. Lower entropo.entropic.probability."
        }
