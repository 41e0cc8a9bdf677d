"""The law ``R = -a exp(H) + b`` (arXiv 2505.22617, equation 6): the score that a run buys with its entropy.

R is the validation score and H the token-mean entropy in nats at the same step. At H = 0 nothing is left to spend, and
the score has reached its ceiling ``b - a``. The law holds while entropy falls and no entropy control is active. A fit
is only a fit until nothing speaks against it; :mod:`entropo_plugin.monitor.residuals` looks at what it leaves over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from entropo_plugin import metric_names as names
from entropo_plugin.monitor.residuals import residual_doubts
from entropo_plugin.monitor.running_regression import LARGEST, RunningLine
from entropo_plugin.monitor.student import student_t

LEAST_POINTS = 5
# Fewer points than this show no structure in their residuals, so that they have to lie almost on the curve.
MANY_POINTS = 12
LEAST_R_SQUARED, LEAST_R_SQUARED_OF_FEW = 0.8, 0.98
# The ceiling lies mean exp(H) - 1 away from the points, which must be spread over this share of that distance.
LEAST_SPREAD = 0.1
# Near H = 0 that way is short: there the spread is measured by exp(H) itself, about its share of the entropy's moves.
LEAST_MOVE = 0.01
# Points that a run keeps; then every second one goes.
MOST_POINTS = 200


@dataclass(frozen=True)
class LawFit:
    """A fit of the law and what speaks against it.

    Attributes:
        points: number of (entropy, score) pairs.
        spread: standard deviation of exp(H).
        a, b: coefficients; a is None while exp(H) has no spread.
        r_squared: share of the score's variance that the fit explains; None while a is.
        ceiling: ``b - a``, the score at H = 0.
        low, high: 95 % prediction interval of one score at H = 0, for errors that are independent and a form that is
            right; None with fewer than 3 points.
        distance: ``mean exp(H) - 1``, how far the ceiling is from the points.
        best: highest score seen; None without a fit.
        structure: what the residuals show against the form or the independence, in plain language.
        controlled: whether entropy control was active.
    """

    points: int
    spread: float
    a: float | None = None
    b: float | None = None
    r_squared: float | None = None
    ceiling: float | None = None
    low: float | None = None
    high: float | None = None
    distance: float = 0.0
    best: float | None = None
    structure: tuple[str, ...] = ()
    controlled: bool = False

    @property
    def doubts(self) -> list[str]:
        """Each reason not to trust the fit, in plain language."""
        doubts = []
        if self.points < LEAST_POINTS:
            doubts.append(f"it rests on {self.points} points, and at least {LEAST_POINTS} are needed")
        if self.spread <= max(LEAST_SPREAD * self.distance, LEAST_MOVE * (1 + self.distance)):
            doubts.append("entropy has hardly moved, so nothing shows how the score depends on it")
        if self.a is not None and self.a <= 0:
            doubts.append(f"a = {self.a:.3g} is not positive: the score does not rise as entropy falls")
        least = LEAST_R_SQUARED if self.points >= MANY_POINTS else LEAST_R_SQUARED_OF_FEW
        if self.r_squared is not None and self.r_squared < least:
            doubts.append(f"R^2 = {self.r_squared:.2f} is below {least}: the points do not follow the law")
        if self.ceiling is not None and self.best is not None and self.ceiling < self.best - 1e-9 * abs(self.best):
            doubts.append(f"its ceiling {self.ceiling:.3g} is below {self.best:.3g}, a score that was seen")
        doubts += self.structure
        return doubts + ["entropy was controlled, and the law is one of runs without control"] * self.controlled

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
    """The law through pairs that arrive one by one; the state is JSON.

    Args:
        controlled: whether entropy control is active in this run.
    """

    def __init__(self, controlled: bool = False) -> None:
        self.controlled = controlled
        self.points: list[tuple[float, float]] = []

    def add(self, entropy: float | None, score: float | None) -> None:
        """Take one validation's entropy (nats) and score; a pair that is missing or not finite is passed over."""
        if entropy is None or score is None or not (abs(entropy) <= LARGEST and abs(score) <= LARGEST):
            return
        self.points.append((entropy, score))
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]

    def fit(self) -> LawFit:
        """The law through all pairs so far."""
        return fit_law(self.points, self.controlled)

    def metrics(self) -> dict[str, float]:
        """The fit under ``entropo/law/``; empty before the first pair, and what is not yet defined is left out.

        ``points``, ``a``, ``b``, ``r_squared``, ``ceiling``, ``ceiling_low``, ``ceiling_high``, ``trusted`` (1 or 0).
        """
        if not self.points:
            return {}
        fit = self.fit()
        values = {names.LAW_A: fit.a, names.LAW_B: fit.b, names.LAW_R_SQUARED: fit.r_squared}
        values |= {names.LAW_CEILING: fit.ceiling, names.LAW_CEILING_LOW: fit.low, names.LAW_CEILING_HIGH: fit.high}
        metrics = {names.LAW_POINTS: float(fit.points), names.LAW_TRUSTED: float(fit.trusted)}
        return metrics | {name: value for name, value in values.items() if value is not None}

    def state_dict(self) -> dict[str, Any]:
        """State as plain JSON values: entropy, score, entropy, score and so on."""
        return {"points": [value for pair in self.points for value in pair]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off."""
        values = [float(value) for value in state["points"]]
        if len(values) % 2:
            raise ValueError(f"law.points: {len(values)} numbers are no pairs")
        self.points = list(zip(values[::2], values[1::2], strict=True))


def fit_law(pairs: Iterable[tuple[float, float]], controlled: bool = False) -> LawFit:
    """The law through finished ``(entropy, score)`` pairs, in the order in which they came.

    Args:
        controlled: whether entropy control was active.
    """
    points = [(math.exp(min(entropy, 50.0)), score) for entropy, score in pairs]
    line = RunningLine.through(points)
    slope = line.slope
    if slope is None:
        return LawFit(line.n, line.spread, distance=max(0.0, line.mean_x - 1), controlled=controlled)
    half = half_interval(line, slope, at=1.0)
    intercept, r = line.mean_y - slope * line.mean_x, line.correlation
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
        distance=max(0.0, line.mean_x - 1),
        best=max(score for _, score in points),
        structure=() if half is None else tuple(residual_doubts(points, line, slope, half)),
        controlled=controlled,
    )


def half_interval(line: RunningLine, slope: float, at: float) -> float | None:
    """Half the 95 % prediction interval of one y at x: ``t s sqrt(1 + 1/n + (x - mean x)^2 / S_xx)``."""
    if line.n < 3:
        return None
    residual = max(0.0, line.yy - slope * line.xy) / (line.n - 2)
    reach = 1 + 1 / line.n + (at - line.mean_x) ** 2 / line.xx
    return student_t(line.n - 2) * math.sqrt(residual * reach)
