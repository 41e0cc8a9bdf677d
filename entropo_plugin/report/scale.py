"""Axes: round ticks, numbers that read well, and the map from data to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) within [low, high], at most about ``most``."""
    step = nice_step((high - low) / max(1, most - 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 if abs(step) > 1e-9 else i * step for i in range(first, last + 1)]


def nice_step(least: float) -> float:
    """The smallest round step that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def whole_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Ticks on whole numbers, for steps."""
    return [tick for tick in ticks(low, high, most) if tick == int(tick)] or [math.ceil(low)]


def power_ticks(low: float, high: float) -> list[float]:
    """Powers of two within [low, high]."""
    return [float(2**i) for i in range(math.ceil(math.log2(low)), math.floor(math.log2(high) + 1e-9) + 1)]


def padded(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """Limits with air around the data; equal limits are spread, so that every axis has a length."""
    if high - low <= 1e-12 * max(1e-300, abs(low), abs(high)) or high == low:
        air = abs(low) * 0.1 or 1.0
        return low - air, high + air
    air = (high - low) * share
    return (0.0 if low == 0 else low - air), high + air


def number(value: float, digits: int = 3) -> str:
    """A number with some significant digits, thousands spaced, a true minus: -0.0123, 12 500, 3.1e-05."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        text = f"{size:.{digits - 1}e}"
    elif size >= 10 ** (digits - 1):
        text = f"{size:,.0f}".replace(",", "\u202f")
    else:
        text = f"{size:.{digits - 1 - math.floor(math.log10(size))}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return ("\u2212" if value < 0 else "") + text


def count(value: int) -> str:
    """A whole number with its thousands spaced: 100 000."""
    return f"{value:,}".replace(",", "\u202f")


def tick_text(value: float, step: float) -> str:
    """A tick's label: as many digits as tell it from its neighbours, thousands as k."""
    if abs(value) >= 10_000 and step >= 100:
        return f"{number(value / 1000, 6)}k"
    needed = 1 + max(0, math.floor(math.log10(max(abs(value), step))) - math.floor(math.log10(step)))
    return number(value, max(3, min(needed + 1, 12)))


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to the pixels [start, end], in base-2 logarithms if ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log2(self.low), math.log2(self.high)) if self.log else (self.low, self.high)
        at = math.log2(value) if self.log else value
        return self.start + (at - low) / (high - low) * (self.end - self.start)
