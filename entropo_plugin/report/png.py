"""The report's pictures as PNG files, drawn by matplotlib (the extra ``report``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entropo_plugin.report.figure import Curve, Panel, Section
from entropo_plugin.report.files import ReportError
from entropo_plugin.report.output import replaceable
from entropo_plugin.report.scale import padded
from entropo_plugin.report.tags import one_line

PALETTE = ("#1f5fbf", "#cf4a0c", "#12805c", "#8b3fb0", "#a17300", "#c0266d", "#0b7f93", "#5b6470")
STYLES: dict[str, dict[str, Any]] = {
    "solid": {"lw": 1.8},
    "dashed": {"lw": 1.4, "ls": "--"},
    "faint": {"lw": 0.7, "alpha": 0.35},
    "step": {"lw": 1.8, "drawstyle": "steps-post"},
    "dots": {"ls": "", "marker": "o", "ms": 4, "alpha": 0.75},
    "line-dots": {"lw": 1.8, "marker": "o", "ms": 4},
}


def write_pngs(sections: list[Section], folder: Path) -> list[Path]:
    """One PNG for each section with pictures, named after it.

    Raises:
        ReportError: matplotlib is missing.
    """
    pyplot = _pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(pyplot, section, folder / f"{section.key}.png") for section in sections if section.panels]


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ReportError("--png needs matplotlib: pip install 'entropo-plugin[report]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _write(pyplot: Any, section: Section, path: Path) -> Path:
    rows = _rows(section.panels)
    heights = [max(panel.height for panel in row) for row in rows]
    picture = pyplot.figure(figsize=(10, 0.8 + 3.2 * sum(heights)), layout="constrained")
    grid = picture.add_gridspec(len(rows), 2, height_ratios=heights)
    for place, row in enumerate(rows):
        for column, panel in enumerate(row):
            _panel(picture.add_subplot(grid[place, column] if panel.half else grid[place, :]), panel)
    picture.suptitle(_plain(section.title), fontsize=13, fontweight="bold")
    picture.savefig(replaceable(path), dpi=140)
    pyplot.close(picture)
    return path


def _rows(panels: list[Panel]) -> list[list[Panel]]:
    """Half panels in pairs, whole ones alone."""
    rows: list[list[Panel]] = []
    for panel in panels:
        if panel.half and rows and rows[-1][0].half and len(rows[-1]) == 1:
            rows[-1].append(panel)
        else:
            rows.append([panel])
    return rows


def _panel(axes: Any, panel: Panel) -> None:
    for band in panel.bands:
        axes.fill_between(
            band.x, band.low, band.high, color=_colour(band.colour), alpha=0.28 if band.strong else 0.15, lw=0
        )
    for curve in panel.curves:
        _curve(axes, curve)
    low, high = padded(*panel.limits()[2:])
    axes.set(xlabel=_plain(panel.x_label), ylabel=_plain(panel.y_label), ylim=(low, high))
    axes.set_title(_plain(panel.title), loc="left", fontsize=10)
    if panel.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _curve(axes: Any, curve: Curve) -> None:
    label = _plain(curve.label) if curve.label and curve.listed else "_nolegend_"
    axes.plot(curve.x, curve.y, color=_colour(curve.colour), label=label, **STYLES[curve.style])


def _colour(run: int) -> str:
    return PALETTE[run % len(PALETTE)]


def _plain(label: str) -> str:
    """Text that matplotlib takes literally: no formulas, no hidden legend entries."""
    return one_line(label).replace("$", r"\$").lstrip("_")
