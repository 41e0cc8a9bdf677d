"""Reads side files ``run.json``: what a run says about itself at its start."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entropo_plugin.report.files import ReportError, opened
from entropo_plugin.report.words import number

FORMAT = 1
LARGEST = 10**6
LONGEST = 500


@dataclass(frozen=True)
class Coefficient:
    """What a run says about one number that it moves.

    Attributes:
        label: what the report calls it.
        low, high: its bounds, as the run states them.
        key: the setting that moves the bound; "" where none is named.
        method: whose coefficient it is.
    """

    label: str
    low: float | None = None
    high: float | None = None
    key: str = ""
    method: str = ""

    @property
    def bounds(self) -> str:
        """``0.001 to 0.05``, ``at most 0.05``, or nothing."""
        if self.low is not None and self.high is not None:
            moving = self.low == self.high  # with the run
            return "" if moving else f"{number(self.low)} to {number(self.high)}"
        ends = {"at least": self.low, "at most": self.high}
        return next((f"{words} {number(end)}" for words, end in ends.items() if end is not None), "")


@dataclass(frozen=True)
class Description:
    """A run's own words.

    Attributes:
        line: what was active, as the trainer said at start-up.
        coefficients: by the name of the metric without ``entropo/``.
        record: the file as it is.
    """

    line: str = ""
    coefficients: dict[str, Coefficient] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)


def read_descriptions(paths: list[Path]) -> tuple[Description, list[str]]:
    """The description of the last attempt that has one, and notes; attempts come oldest first."""
    descriptions, notes = [], []
    for path in paths:
        try:
            descriptions.append(read_description(path))
        except FileNotFoundError:
            continue
        except (ReportError, OSError) as error:
            notes.append(f"Not read: {error}")
    if len({each.line for each in descriptions}) > 1:
        notes.append("The attempts were not started alike; the start-up line is that of the last one.")
    return descriptions[-1] if descriptions else Description(), notes


def read_description(path: Path) -> Description:
    """One file.

    Raises:
        ReportError: it is no description, or of a format that this version does not know.
    """
    with opened(path, LARGEST) as file:
        content = file.read(LARGEST)
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        raise ReportError(f"{path} is damaged: no JSON.") from None
    stated = record.get("format") if isinstance(record, dict) else None
    if stated != FORMAT:
        raise ReportError(f"{path} is of format {str(stated)[:20]}; this version reads format {FORMAT}.")
    given = record.get("coefficients")
    entries = given.items() if isinstance(given, dict) else ()
    said = {stem: _coefficient(stem, entry) for stem, entry in entries}
    return Description(_text(record.get("line")), said, record)


def _coefficient(stem: str, entry: Any) -> Coefficient:
    """One entry; what is of the wrong type counts as not said."""
    said = entry if isinstance(entry, dict) else {}
    label, key, method = (_text(said.get(name)) for name in ("label", "key", "method"))
    return Coefficient(label or stem, _number(said.get("low")), _number(said.get("high")), key, method)


def _text(value: Any) -> str:
    return value.strip()[:LONGEST] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < 1e30 and not math.isnan(value) else None
