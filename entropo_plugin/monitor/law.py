"""The law ``R = -a exp(H) + b`` (EM, arXiv 2505.22617, equation 6): the score that a run buys with its entropy.

R is the validation score and H the token-mean entropy in nats at the same step. At H = 0 nothing is left to spend, and
the score has reached its ceiling ``b - a``. The law holds while entropy falls and no entropy control is active.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from entropo_plugin.monitor.running_regression import RunningLine

LEAST_POINTS = 5
LEAST_R_SQUARED = 0.8
# Entropy that moved by less than about this many nats cannot show how the score depends on it.
LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class LawFit:
    """A fit of the law and what speaks against it.

    Attributes:
        points: number of (entropy, score) pairs.
        spread: standard deviation of exp(H).
        a, b: coefficients; a is None while exp(H) has no spread.
        r_squared: share of the score's variance that the law explains; None while a is.
        ceiling: ``b - a``, the score at H = 0.
        low, high: 95 % prediction interval of one score at H = 0; None with fewer than 3 points.
    """

    points: int
    spread: float
    a: float | None = None
    b: float | None = None
    r_squared: float | None = None
    ceiling: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def doubts(self) -> list[str]:
        """Each reason not to trust the fit, in plain language."""
        found = []
        if self.points < LEAST_POINTS:
            found.append(f"it rests on {self.points} points, and at least {LEAST_POINTS} are needed")
        if self.spread < LEAST_SPREAD:
            found.append("entropy has hardly moved, so nothing shows how the score depends on it")
        if self.a is not None and self.a <= 0:
            found.append(f"a = {self.a:.3g} is not positive: the score does not rise as entropy falls")
        if self.r_squared is not None and self.r_squared < LEAST_R_SQUARED:
            found.append(f"R^2 = {self.r_squared:.2f} is below {LEAST_R_SQUARED}: the points do not follow the law")
        return found

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the fit."""
        return not self.doubts

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        if not self.trusted:
            return "Don't trust this fit: " + "; ".join(self.doubts) + "."
        return (
            f"The law holds (R^2 = {self.r_squared:.2f}): without entropy control the score would end near "
            f"{self.ceiling:.3g} (95 %: {self.low:.3g} to {self.high:.3g})."
        )


class RewardLaw:
    """Ordinary least squares of the law over pairs that arrive one by one; the state is JSON."""

    def __init__(self) -> None:
        self.line = RunningLine()

    def add(self, entropy: float | None, score: float | None) -> None:
        """Take one validation's entropy (nats) and score; a pair that is missing or not finite is passed over."""
        if entropy is None or score is None or not (math.isfinite(entropy) and math.isfinite(score)):
            return
        self.line.add(math.exp(min(entropy, 50.0)), score)

    def fit(self) -> LawFit:
        """The law through all pairs so far."""
        line, slope = self.line, self.line.slope
        if slope is None:
            return LawFit(line.n, line.spread)
        intercept = line.mean_y - slope * line.mean_x
        r = line.correlation
        half = _half_interval(line, slope, at=1.0)
        ceiling = intercept + slope
        return LawFit(
            points=line.n,
            spread=line.spread,
            a=-slope,
            b=intercept,
            r_squared=0.0 if r is None else r * r,
            ceiling=ceiling,
            low=None if half is None else ceiling - half,
            high=None if half is None else ceiling + half,
        )

    def metrics(self) -> dict[str, float]:
        """``entropo/law/`` ``points``, ``a``, ``b``, ``r_squared``, ``ceiling``, ``ceiling_low``, ``ceiling_high``
        and ``trusted`` (1 or 0); empty before the first pair, and what is not yet defined is left out.
        """
        if not self.line.n:
            return {}
        fit = self.fit()
        named = {"a": fit.a, "b": fit.b, "r_squared": fit.r_squared, "ceiling": fit.ceiling}
        named |= {"ceiling_low": fit.low, "ceiling_high": fit.high}
        found = {"points": float(fit.points), "trusted": float(fit.trusted)}
        found |= {name: value for name, value in named.items() if value is not None}
        return {f"entropo/law/{name}": value for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """State as plain JSON values."""
        return {"line": self.line.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off."""
        self.line.load_state_dict(state["line"])


def fit_law(pairs: Iterable[tuple[float, float]]) -> LawFit:
    """The law through finished ``(entropy, score)`` pairs."""
    law = RewardLaw()
    for entropy, score in pairs:
        law.add(entropy, score)
    return law.fit()


def _half_interval(line: RunningLine, slope: float, at: float) -> float | None:
    """Half the 95 % prediction interval of one y at x: ``t s sqrt(1 + 1/n + (x - mean x)^2 / S_xx)``."""
    if line.n < 3:
        return None
    residual = max(0.0, line.yy - slope * line.xy) / (line.n - 2)
    reach = 1 + 1 / line.n + (at - line.mean_x) ** 2 / line.xx
    return student_t(line.n - 2) * math.sqrt(residual * reach)


def student_t(freedom: int, level: float = 0.95) -> float:
    """The t within which a share ``level`` of Student's distribution lies on both sides, by bisection.

    Abramowitz and Stegun 26.7.3 and 26.7.4 give that share in closed form for whole degrees of freedom; above 1000 the
    value for 1000 stands in (0.1 % too wide).
    """
    freedom = min(freedom, 1000)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _inside(theta: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) * tan(theta))."""
    odd = freedom % 2
    term = math.cos(theta) if odd else 1.0
    series = term if freedom > 1 else 0.0
    for power in range(odd + 2, freedom - 1, 2):
        term *= (power - 1) / power * math.cos(theta) ** 2
        series += term
    series *= math.sin(theta)
    return 2 / math.pi * (theta + series) if odd else series
