"""The controllers that a plan needs, one per coefficient, under the names that their metrics carry."""

from __future__ import annotations

import math

from entropo_plugin.config import Anneal, Settings
from entropo_plugin.control import Controller
from entropo_plugin.control.laws import Options
from entropo_plugin.hosts.verl.startup.plan import Plan
from entropo_plugin.objectives import high_from_offset


def controllers(plan: Plan) -> dict[str, Controller]:
    """By name: ``zeta`` or ``pull`` for the estimator; the others, ``clip_high`` to ``beta``, for the loss."""
    found: dict[str, Controller] = {}
    settings = plan.settings
    zeta, target = settings.repo.zeta, settings.target
    if plan.estimator in ("repo_r", "repo_d"):
        options = Options(gains=zeta.pi, anneal=zeta.anneal)
        found["zeta"] = Controller(zeta.law, zeta.initial, plan.low, plan.high, target, options)
    if plan.estimator == "repo_neutral":
        found["pull"] = Controller("neutral", 0.0, 0.0, 1.0, target, Options(kappa=settings.neutral.kappa))
    if plan.loss == "adapo":
        found["clip_high"] = _clip_high(settings)
    if settings.entropy_coeff.law != "fixed":
        found["entropy_coeff"] = _entropy_coeff(settings, plan.entropy_coeff)
    return found | _of_covariance(plan.covariance, settings)


def _of_covariance(method: str | None, settings: Settings) -> dict[str, Controller]:
    clip, kl = settings.clip_cov, settings.kl_cov
    if method == "clip_cov":
        return {"ratio": _annealed(clip.ratio, clip.anneal, settings)}
    if method == "kl_cov":
        ratio = _annealed(kl.ratio, kl.anneal_ratio, settings)
        return {"ratio": ratio, "beta": _annealed(kl.beta, kl.anneal, settings)}
    return {}


def _entropy_coeff(settings: Settings, own: float) -> Controller:
    each = settings.entropy_coeff
    options = Options(factor=each.factor, delta=each.delta, signed=False, gains=each.pi, anneal=each.anneal)
    return Controller(
        each.law, own if each.initial is None else each.initial, each.low, each.high, settings.target, options
    )


def _clip_high(settings: Settings) -> Controller:
    each = settings.adapo.clip_high
    options = Options(factor=each.factor, delta=each.delta, signed=False, gains=each.pi, anneal=each.anneal)
    if each.law == "additive":
        return Controller(each.law, each.offset, 0.0, each.offset_max, settings.target, options)
    return Controller(each.law, each.initial, each.low, each.high, settings.target, options)


def _annealed(value: float, anneal: Anneal, settings: Settings) -> Controller:
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
