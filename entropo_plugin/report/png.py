"""The report's pictures as PNG files, drawn by matplotlib (the extra ``report``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entropo_plugin.report.figure import Curve, Panel, Section
from entropo_plugin.report.files import ReportError
from entropo_plugin.report.output import replaceable
from entropo_plugin.report.series import Series, smooth
from entropo_plugin.report.words import one_line

PALETTE = ("#1f62b8", "#d4570a", "#0e8f76", "#c269bc", "#6b1f2a", "#169ddc", "#1c2331", "#705b06")
DASHES = ("-", "--", "-.", (0, (4, 2)))
STYLES: dict[str, dict[str, Any]] = {
    "dashed": {"lw": 1.4, "ls": ":"},
    "step": {"drawstyle": "steps-post"},
    "dots": {"ls": "", "marker": "o", "ms": 4, "alpha": 0.75},
    "line-dots": {"marker": "o", "ms": 4},
}


def write_pngs(sections: list[Section], folder: Path) -> list[Path]:
    """One PNG for each section with pictures, named after it."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_png(section, folder / f"{section.key}.png") for section in sections if section.panels]


def write_png(section: Section, path: Path) -> Path:
    """A section's panels, three in a row, four in two.

    Raises:
        ReportError: matplotlib is missing.
    """
    try:
        from matplotlib import figure
    except ImportError as error:
        raise ReportError("--png needs matplotlib: pip install 'entropo-plugin[report]'") from error
    across = 2 if len(section.panels) == 4 else min(3, len(section.panels))
    down = -(-len(section.panels) // across)
    size = (max(6.0, 4.6 * across), 0.5 + 3.4 * down)
    picture = figure.Figure(figsize=size, layout="constrained")
    axes = picture.subplots(down, across, squeeze=False)
    for place, panel in enumerate(section.panels):
        _panel(axes.flat[place], panel)
    for empty in axes.flat[len(section.panels) :]:
        empty.remove()
    picture.suptitle(_plain(section.title), fontsize=12, fontweight="bold")
    picture.savefig(replaceable(path), dpi=120)
    return path


def _panel(axes: Any, panel: Panel) -> None:
    for band in panel.bands:
        axes.fill_between(band.x, band.low, band.high, color=PALETTE[band.run % len(PALETTE)], alpha=0.2, lw=0)
    for curve in panel.curves:
        _curve(axes, curve)
    axes.set(xlabel=_plain(panel.x_label), ylabel=_plain(panel.y_label))
    if panel.zero and min((curve.y.min() for curve in panel.curves), default=0) >= 0:
        axes.set_ylim(bottom=0)
    axes.set_title(_plain(panel.title), loc="left", fontsize=10)
    if panel.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _curve(axes: Any, curve: Curve) -> None:
    again, colour = divmod(curve.run, len(PALETTE))
    look = {"color": PALETTE[colour], "ls": DASHES[again % len(DASHES)], "lw": 1.8}
    mean = smooth(Series(curve.x, curve.y)) if curve.style == "noisy" else None
    if mean is not None:
        axes.plot(curve.x, curve.y, **look | {"lw": 0.7, "alpha": 0.35})
    y = curve.y if mean is None else mean.values
    axes.plot(curve.x, y, label=_plain(curve.label), **look | STYLES.get(curve.style, {}))


def _plain(label: str) -> str:
    """Text that matplotlib takes literally: no formulas, no hidden legend entries."""
    return one_line(label).replace("$", r"\$").lstrip("_")
