"""Text that reads well: numbers with few digits, and a run's own words without what does not belong in a report."""

from __future__ import annotations

import math
import re
from typing import Any

NONE = "\u2013"
# Control characters, lone surrogates, and the marks that turn the direction of writing: none belongs in a report.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
BREAKS = re.compile("[\\t\\n\\r]+")


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


def clean(value: Any) -> Any:
    """Text, also within lists and dictionaries, with what cannot be printed replaced by the replacement character."""
    if isinstance(value, list):
        return [clean(each) for each in value]
    if isinstance(value, dict):
        return {name: clean(each) for name, each in value.items()}
    return UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def one_line(value: str) -> str:
    """Text for a terminal or a picture: cleaned, and without what would begin a new line."""
    return UNPRINTABLE.sub("\ufffd", BREAKS.sub(" ", value))
