"""Numbers that read well."""

from __future__ import annotations

import math

NONE = "\u2013"


def number(value: float | None, digits: int = 3) -> str:
    """A number with some significant digits, thousands spaced, a true minus: -0.0123, 12 500, 3.1e-05."""
    if value is None:
        return NONE
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
