"""A picture before it is drawn: panels of curves and bands over labelled axes. app.js and png.py draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series
from entropo_plugin.report.tokens import CostlyToken


@dataclass(frozen=True)
class Curve:
    """One line or cloud.

    Attributes:
        label: what the read-out and the table call it; it begins with the run's name.
        x, y: its points.
        run: number of the run, which decides on colour and dash throughout the report.
        style: solid | noisy (a running mean over a faint trace) | dashed | step | dots | line-dots.
    """

    label: str
    x: NDArray[Any]
    y: NDArray[np.float64]
    run: int
    style: str = "solid"


@dataclass(frozen=True)
class Band:
    """The area between two curves over the same x."""

    x: NDArray[Any]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    run: int


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what it shows, in a few words.
        x_label, y_label: names of the axes with their units; over "step" a reader may choose tokens or time.
        curves, bands: what is drawn, in this order: bands, then curves.
        log_x: base-2 logarithmic x.
        zero: whether y begins at 0 when all values are above it.
        limits: limits of y in place of those of the data.
    """

    title: str
    x_label: str
    y_label: str
    curves: list[Curve] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    log_x: bool = False
    zero: bool = False
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Section:
    """One chapter of the report; panels without curves and tables without rows are left out.

    Attributes:
        key: its anchor and the name of its PNG.
        title: heading.
        lead: what to look for, one or two plain sentences.
        panels: its pictures.
        missing: what the runs lack for this section, and what to do about it.
        remarks: sentences under the pictures.
        tables: below the pictures.
        excerpts: responses with their costly tokens, by the number of the run.
    """

    key: str
    title: str
    lead: str = ""
    panels: list[Panel] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    excerpts: dict[int, list[list[CostlyToken | str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.panels = [panel for panel in self.panels if panel.curves]
        self.tables = [table for table in self.tables if table.rows]


def curve(run: Run, data: Series, style: str = "solid", what: str = "") -> Curve:
    """A series of a run as one curve."""
    return Curve(f"{run.name}: {what}" if what else run.name, data.steps, data.values, run.place, style)


def lacking(runs: list[Run], have: list[Run], what: str, remedy: str) -> list[str]:
    """One sentence on the runs that lack something."""
    without = [run.name for run in runs if run not in have]
    verb = "has" if len(without) == 1 else "have"
    return [f"{', '.join(without)} {verb} no {what}. {remedy}"] if without else []
