"""What a straight line leaves over: structure in time or in x, and another curve that fits as well."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from entropo_plugin.monitor.running_regression import RunningLine
from entropo_plugin.monitor.student import student_t

# Residuals below this share of the whole variance are rounding.
ROUNDING = 1e-12
# Of independent residuals, 16 % have a standardised correlation of neighbours above 1. Errors with a memory make the
# printed interval far too narrow (AR(1) of .8: 70 % instead of 95 %), so the weaker sign is enough.
LEAST_MEMORY = 1.0

Points = list[tuple[float, float]]


def residual_doubts(points: Points, line: RunningLine, slope: float, half: float) -> Iterator[str]:
    """What speaks against the line ``y = slope x + intercept`` through ``(exp(H), score)`` points, in order of time.

    Args:
        half: half the prediction interval of the score at H = 0.
    """
    rest = [y - line.mean_y - slope * (x - line.mean_x) for x, y in points]
    whole = sum(value * value for value in rest)
    if len(points) < 4 or whole <= ROUNDING * line.yy:
        return
    by_x = [value for _, value in sorted(zip((x for x, _ in points), rest, strict=True))]
    if max(memory(rest), memory(by_x)) > LEAST_MEMORY:
        yield "neighbouring points err the same way, which makes the interval too narrow"
    if bend(points, line, rest) > student_t(len(points) - 3):
        yield "the points lie on a curve in exp(H), not on a line"
    if unclear(points, line.mean_y + slope * (1 - line.mean_x), whole, half):
        yield "a line in H itself fits as well and ends elsewhere"


def memory(rest: list[float]) -> float:
    """Correlation of neighbouring residuals, ``(r_1 + 1/n) sqrt(n)``: about standard normal for independent ones."""
    shared = sum(first * second for first, second in itertools.pairwise(rest))
    n = len(rest)
    return (shared / sum(value * value for value in rest) + 1 / n) * math.sqrt(n)


def bend(points: Points, line: RunningLine, rest: list[float]) -> float:
    """Size of Student's t of a term in x^2 (n - 3 degrees of freedom)."""
    squares = RunningLine.through([(x, (x - line.mean_x) ** 2) for x, _ in points])
    if squares.slope is None:
        return 0.0
    # what of x^2 the line does not hold already (Frisch and Waugh 1933)
    own = [(x - line.mean_x) ** 2 - squares.mean_y - squares.slope * (x - line.mean_x) for x, _ in points]
    size = sum(value * value for value in own)
    if size <= ROUNDING * squares.yy:
        return 0.0
    shared = sum(first * second for first, second in zip(own, rest, strict=True))
    left = sum(value * value for value in rest) - shared**2 / size
    return math.inf if left <= 0 else abs(shared) / math.sqrt(left / (len(rest) - 3) * size)


def unclear(points: Points, ceiling: float, whole: float, half: float) -> bool:
    """Whether ``R = c - d H`` fits about as well and its score at H = 0 lies outside the interval.

    About as well: a ratio of the squared residuals below the 95 % point of F(m, m), m = n - 2, from Student's t by
    ``sqrt(m) / 2 (sqrt(F) - 1 / sqrt(F)) ~ t_m`` (Cacoullos 1965).
    """
    other = RunningLine.through([(math.log(max(x, 1e-30)), y) for x, y in points])
    if other.slope is None:
        return False
    end = other.mean_y - other.slope * other.mean_x
    left = max(0.0, other.yy - other.slope * other.xy)
    m = len(points) - 2
    reach = student_t(m, level=0.9) / math.sqrt(m)
    return left < whole * (reach + math.sqrt(reach**2 + 1)) ** 2 and abs(end - ceiling) > half
