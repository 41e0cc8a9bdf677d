"""Draws a panel as SVG, by hand: no library, no reference to anything outside. All text is escaped."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from entropo_plugin.report.figure import Band, Curve, Panel
from entropo_plugin.report.scale import Scale, number, padded, power_ticks, tick_text, ticks, whole_ticks
from entropo_plugin.report.tags import text as clean

COLOURS = 8


@dataclass(frozen=True)
class Size:
    """A drawing's measures in pixels."""

    name: str
    width: int
    height: int
    left: int
    x_ticks: int
    right: int = 14
    top: int = 12
    bottom: int = 42


WIDE = Size("wide", 1000, 300, 66, 10)
HALF = Size("half", 490, 290, 62, 6)
NARROW = Size("narrow", 358, 240, 50, 5, right=10)


@dataclass(frozen=True)
class Frame:
    """A panel's scales within a drawing."""

    panel: Panel
    size: Size
    height: int
    x: Scale
    y: Scale


def frame(panel: Panel, size: Size) -> Frame:
    """Lay out the axes."""
    height = round(size.height * panel.height)
    x_low, x_high, y_low, y_high = panel.limits()
    y_low, y_high = padded(y_low, y_high)
    if panel.log_x:
        x_low, x_high = x_low / 1.1, x_high * 1.1
    elif x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    x = Scale(x_low, x_high, size.left, size.width - size.right, panel.log_x)
    return Frame(panel, size, height, x, Scale(y_low, y_high, height - size.bottom, size.top))


def draw(panel: Panel, size: Size, ident: str) -> str:
    """One ``<svg>`` with title, description, axes and curves; its read-out is added by hover.js."""
    at = frame(panel, size)
    x, y = at.x, at.y
    parts = [
        f'<svg class="chart {size.name}" viewBox="0 0 {size.width} {at.height}" role="img" tabindex="0" '
        f'aria-labelledby="{ident}-t {ident}-d" data-x="{x.low!r},{x.high!r},{x.start},{x.end},{int(x.log)}" '
        f'data-y="{y.low!r},{y.high!r},{y.start},{y.end}" data-name="{clean(panel.x_label)}">',
        f'<title id="{ident}-t">{clean(panel.title)}</title>',
        f'<desc id="{ident}-d">{clean(describe(panel))}</desc>',
        *axes(at),
        *(band(each, at) for each in panel.bands),
        *(curve(each, at) for each in panel.curves),
        "</svg>",
    ]
    return "".join(parts)


def describe(panel: Panel) -> str:
    """The picture in words, for those who cannot see it."""
    lines = [f"{panel.y_label} against {panel.x_label}."]
    for each in panel.curves:
        if each.label and each.y:
            lines.append(f"{each.label}: from {number(each.y[0])} to {number(each.y[-1])}.")
    return " ".join(lines)


def axes(at: Frame) -> list[str]:
    """Grid, ticks and the names of both axes."""
    x_at, y_at = axis_ticks(at)
    left, right, foot = at.size.left, at.size.width - at.size.right, at.height - at.size.bottom
    parts = []
    for value, text in y_at:
        place = f"{at.y(value):.1f}"
        parts.append(
            f'<line class="{"zero" if value == 0 else "grid"}" x1="{left}" x2="{right}" y1="{place}" y2="{place}"/>'
        )
        parts.append(f'<text class="tick end" x="{left - 8}" y="{place}" dy=".35em">{text}</text>')
    for value, text in x_at:
        place = f"{at.x(value):.1f}"
        parts.append(f'<line class="mark" x1="{place}" x2="{place}" y1="{foot}" y2="{foot + 5}"/>')
        parts.append(f'<text class="tick mid" x="{place}" y="{foot + 19}">{text}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{foot}" y2="{foot}"/>')
    parts.append(
        f'<text class="name mid" x="{(left + right) / 2}" y="{at.height - 5}">{clean(at.panel.x_label)}</text>'
    )
    return parts


def axis_ticks(at: Frame) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
    """Places and labels of the ticks of both axes."""
    x, y, panel = at.x, at.y, at.panel
    rows = 4 if at.height < 200 else 7
    across = panel.x_ticks or (power_ticks(x.low, x.high) if x.log else _across(at))
    return _labelled([tick for tick in across if x.low <= tick <= x.high]), _labelled(ticks(y.low, y.high, rows))


def _across(at: Frame) -> list[float]:
    choose = whole_ticks if at.panel.x_label.startswith("step") else ticks
    return choose(at.x.low, at.x.high, at.size.x_ticks)


def _labelled(values: list[float]) -> list[tuple[float, str]]:
    step = min((b - a for a, b in itertools.pairwise(values)), default=abs(values[0]) if values else 1.0) or 1.0
    return [(value, tick_text(value, step)) for value in values]


def band(each: Band, at: Frame) -> str:
    """A closed area."""
    there = _points(each.x, each.high, at)
    back = _points(each.x, each.low, at)[::-1]
    strength = "strong" if each.strong else "weak"
    return f'<path class="band {strength} c{each.colour % COLOURS}" d="M{"L".join(there + back)}Z"/>'


def curve(each: Curve, at: Frame) -> str:
    """A line, a stair or a cloud; its label rides along for the read-out."""
    points = _points(each.x, each.y, at)
    colour = f"c{each.colour % COLOURS}" + (" second" if each.colour >= COLOURS else "")
    label = f' data-label="{clean(each.label)}"' if each.label else ""
    parts = []
    if each.style != "dots":
        parts.append(f'<path class="line {each.style} {colour}"{label} d="{_line(points, each.style)}"/>')
    if each.style in ("dots", "line-dots") or len(points) == 1:
        mark = "".join(f"M{point}h0" for point in points)
        own = label if each.style == "dots" else ""
        parts.append(f'<path class="dots {colour}"{own} d="{mark}"/>')
    return "".join(parts)


def _line(points: list[str], style: str) -> str:
    if style != "step":
        return "M" + "L".join(points)
    stair = points[0]
    for point in points[1:]:
        x, y = point.split(" ")
        stair += f"H{x}V{y}"
    return "M" + stair


def _points(x: list[float], y: list[float], at: Frame) -> list[str]:
    return [f"{at.x(a):.1f} {at.y(b):.2f}" for a, b in zip(x, y, strict=True)]
