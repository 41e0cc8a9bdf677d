"""One finding, and the figures in its words."""

from __future__ import annotations

import re
from dataclasses import dataclass

# bad: something is wrong; note: worth a look; fact: how it went, neither good nor bad; good: as it should be.
ORDER = {"bad": 0, "note": 1, "fact": 2, "good": 3}
# Fewer values than this say nothing about a run's course.
LEAST_POINTS = 5


@dataclass(frozen=True)
class Finding:
    """One sentence.

    Attributes:
        mood: bad | note | fact | good.
        headline: two to four words.
        sentence: with its figures.
        run: the run's name; "" where it speaks of several.
    """

    mood: str
    headline: str
    sentence: str
    run: str = ""

    @property
    def page(self) -> str:
        """Where the documentation says what it means and what to do: docs/report.md has a heading for each headline."""
        return "report.html#" + re.sub(r"[^a-z0-9 -]", "", self.headline.lower()).replace(" ", "-")


def percent(change: float) -> str:
    """A relative change with its sign: +12%."""
    sign = "\u00b1" if abs(change) < 0.005 else "\u2212" if change < 0 else "+"
    return f"{sign}{abs(change):.0%}"
