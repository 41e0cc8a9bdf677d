"""Student's t distribution for whole degrees of freedom, without SciPy."""

from __future__ import annotations

import math


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
