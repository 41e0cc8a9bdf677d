"""Small pieces of HTML. Everything that comes from a run passes through ``text``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

# Control characters, lone surrogates, and the marks that turn the direction of writing: none belongs in a report.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
BREAKS = re.compile("[\\t\\n\\r]+")


def text(value: str) -> str:
    """Text as HTML: escaped, and what cannot be printed replaced by the replacement character."""
    return escape(UNPRINTABLE.sub("\ufffd", value))


def one_line(value: str) -> str:
    """Text for a terminal or a picture: what cannot be printed is replaced, and what would begin a new line."""
    return UNPRINTABLE.sub("\ufffd", BREAKS.sub(" ", value))


def paragraphs(lines: Sequence[str], kind: str) -> str:
    """One ``<p class=kind>`` a line."""
    return "".join(f'<p class="{kind}">{text(line)}</p>' for line in lines)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column names its rows; on a narrow screen it scrolls by itself."""
    head = "".join(f'<th scope="col">{text(each)}</th>' for each in heads)
    body = "".join(_row(row) for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str]) -> str:
    rest = "".join(f"<td>{text(cell)}</td>" for cell in cells[1:])
    return f'<tr><th scope="row">{text(cells[0])}</th>{rest}</tr>'
