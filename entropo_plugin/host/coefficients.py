"""The controllers that a plan needs, one per coefficient, under the names that their metrics carry."""

from __future__ import annotations

import math

from entropo_plugin.config import Anneal, ClipCov, KlCov, Settings
from entropo_plugin.control import Controller
from entropo_plugin.control.laws import Options
from entropo_plugin.objectives import high_from_offset


def controllers(estimator: str | None, loss: str | None, settings: Settings, low: float, high: float) -> dict:
    """By name: ``zeta`` or ``pull`` for the estimator; ``clip_high``, ``ratio`` or ``beta`` for the loss.

    Args:
        low, high: bounds of |zeta|.
    """
    found: dict[str, Controller] = {}
    zeta, target = settings.repo.zeta, settings.target
    if estimator in ("repo_r", "repo_d"):
        options = Options(gains=zeta.pi, anneal=zeta.anneal)
        found["zeta"] = Controller(zeta.law, zeta.initial, low, high, target, options)
    if estimator == "repo_neutral":
        found["pull"] = Controller("neutral", 0.0, 0.0, 1.0, target, Options(kappa=settings.neutral.kappa))
    if loss == "adapo":
        found["clip_high"] = _clip_high(settings)
    if loss == "entropo_clip_cov":
        found["ratio"] = _annealed(settings.clip_cov.ratio, settings.clip_cov, settings)
    if loss == "entropo_kl_cov":
        found["beta"] = _annealed(settings.kl_cov.beta, settings.kl_cov, settings)
    return found


def _clip_high(settings: Settings) -> Controller:
    each = settings.adapo.clip_high
    options = Options(factor=each.factor, delta=each.delta, signed=False, gains=each.pi, anneal=each.anneal)
    if each.law == "additive":
        return Controller(each.law, each.offset, 0.0, each.offset_max, settings.target, options)
    return Controller(each.law, each.initial, each.low, each.high, settings.target, options)


def _annealed(value: float, group: ClipCov | KlCov, settings: Settings) -> Controller:
    anneal: Anneal = group.anneal
    law = "fixed" if anneal.kind == "constant" else "annealed"
    high = max(value, anneal.end, 1e-12)
    return Controller(law, value, 0.0, high, settings.target, Options(signed=False, anneal=anneal))


def clip_high(settings: Settings, coefficient: float) -> float:
    """ADAPO's ``high`` from its coefficient: itself, or with law=additive the offset k of MAI-Thinking-1's form."""
    if settings.adapo.clip_high.law == "additive":
        return high_from_offset(settings.adapo.clip_low, coefficient)
    return coefficient


def ratio_bounds(low: float | None, high: float | None) -> tuple[float, float] | None:
    """ADAPO's outer clip; an open side is filled, and two open sides are none."""
    return None if low is None and high is None else (0.0 if low is None else low, math.inf if high is None else high)
