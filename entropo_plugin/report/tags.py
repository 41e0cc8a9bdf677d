"""Text of a run, cleaned of what does not belong in a report; the page's template escapes it as well."""

from __future__ import annotations

import re
from typing import Any

# Control characters, lone surrogates, and the marks that turn the direction of writing: none belongs in a report.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
BREAKS = re.compile("[\\t\\n\\r]+")


def clean(value: Any) -> Any:
    """Text with what cannot be printed replaced by the replacement character; any other value as it is."""
    return UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def one_line(value: str) -> str:
    """Text for a terminal or a picture: cleaned, and without what would begin a new line."""
    return UNPRINTABLE.sub("\ufffd", BREAKS.sub(" ", value))
