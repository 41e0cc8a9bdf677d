"""A picture before it is drawn: panels of curves and bands over labelled axes. svg.py and png.py draw it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Curve:
    """One line or cloud.

    Attributes:
        label: what the legend and the read-out call it; "" keeps it out of both.
        x, y: its points.
        colour: number of the run; runs keep their colour throughout the report.
        style: solid | dashed | faint | step | dots | line-dots.
        listed: whether the legend names it.
    """

    label: str
    x: list[float]
    y: list[float]
    colour: int
    style: str = "solid"
    listed: bool = True


@dataclass(frozen=True)
class Band:
    """The area between two curves over the same x."""

    x: list[float]
    low: list[float]
    high: list[float]
    colour: int
    strong: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what it shows, in a few words.
        x_label, y_label: names of the axes with their units.
        curves, bands: what is drawn, in this order: bands, then curves.
        x_ticks: ticks to use in place of round numbers.
        log_x: base-2 logarithmic x.
        zero: whether y begins at 0 when all values are above it.
        height: relative height.
        y_limits: limits of y in place of those of the data.
        half: stands beside another on a wide screen.
    """

    title: str
    x_label: str
    y_label: str
    curves: list[Curve] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    x_ticks: list[float] | None = None
    log_x: bool = False
    zero: bool = False
    height: float = 1.0
    y_limits: tuple[float, float] | None = None
    half: bool = False

    def limits(self) -> tuple[float, float, float, float]:
        """Smallest and largest x and y that are drawn."""
        xs = [curve.x for curve in self.curves] + [band.x for band in self.bands]
        ys = [curve.y for curve in self.curves] + [side for band in self.bands for side in (band.low, band.high)]
        x, y = np.concatenate(xs), np.concatenate(ys)
        low, high = self.y_limits or (float(y.min()), float(y.max()))
        return float(x.min()), float(x.max()), min(low, 0.0) if self.zero else low, high


@dataclass(frozen=True)
class Section:
    """One chapter of the report.

    Attributes:
        key: its anchor and the name of its PNG.
        title: heading.
        lead: what to look for, one or two plain sentences.
        panels: its pictures.
        missing: what the runs lack for this section, and what to do about it.
        remarks: sentences under the pictures.
        body: finished HTML that stands below, escaped by its maker.
    """

    key: str
    title: str
    lead: str = ""
    panels: list[Panel] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    body: str = ""


def floats(values: ArrayLike) -> list[float]:
    """Plain floats."""
    return [float(value) for value in np.asarray(values)]
