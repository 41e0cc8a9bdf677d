"""The whole report as one HTML file that needs nothing else and may do nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from entropo_plugin import __version__
from entropo_plugin.report.figure import Curve, Panel, Section
from entropo_plugin.report.findings import Finding, findings
from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import count
from entropo_plugin.report.sections import SECTIONS
from entropo_plugin.report.svg import COLOURS, HALF, NARROW, WIDE, draw
from entropo_plugin.report.tags import paragraphs, text


def build(runs: list[Run]) -> list[Section]:
    """Every section of the report."""
    return [section(runs) for section in SECTIONS]


def render(runs: list[Run], sections: list[Section], refresh: float | None = None) -> str:
    """The page; with ``refresh`` it loads itself anew after that many seconds."""
    names = ", ".join(run.name for run in runs)
    style, script = _asset("style.css"), _asset("hover.js")
    body = f"<main>{_findings(findings(runs))}{''.join(map(_section, sections))}{_notes(runs)}</main>"
    again = f'<meta http-equiv="refresh" content="{max(1, round(refresh))}">' if refresh else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style, script)}">{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(names)} \u00b7 entropo report</title><style>{style}</style></head><body>"
        f"{_header(runs, sections)}{body}"
        f"<footer><p>entropo_plugin {__version__}</p></footer><script>{script}</script></body></html>\n"
    )


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that runs our one script, takes our one style sheet, and fetches nothing."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _asset(name: str) -> str:
    return files("entropo_plugin.report").joinpath("assets", name).read_text(encoding="utf-8")


def _header(runs: list[Run], sections: list[Section]) -> str:
    links = "".join(f'<a href="#{each.key}">{text(each.title)}</a>' for each in sections)
    chips = "".join(
        _entry(run.name, colour, "solid", f", {count(run.last_step)} steps") for colour, run in enumerate(runs)
    )
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared"
    return (
        f'<header><p class="eyebrow">entropo report</p><h1>{text(title)}</h1>'
        f'<ul class="legend" aria-label="Runs">{chips}</ul>{_started(runs)}'
        f'<nav aria-label="Sections">{links}</nav></header>'
    )


def _started(runs: list[Run]) -> str:
    """What each run said at its start."""
    lines = [(run.name, run.about.line) for run in runs if run.about.line]
    return "".join(f'<p class="started"><b>{text(name)}</b> {text(line)}</p>' for name, line in lines)


def _findings(found: list[Finding]) -> str:
    items = "".join(f'<li class="{each.mood}"><b>{text(each.headline)}</b>{text(each.sentence)}</li>' for each in found)
    body = f'<ul class="findings">{items}</ul>' if items else '<p class="lead">Too few steps yet for any finding.</p>'
    return f'<section id="findings"><h2>Findings</h2>{body}</section>'


def _section(section: Section) -> str:
    figures = "".join(_figure(panel, f"{section.key}-{place}") for place, panel in enumerate(section.panels))
    return (
        f'<section id="{section.key}"><h2>{text(section.title)}</h2><p class="lead">{text(section.lead)}</p>'
        + (f'<div class="figures">{figures}</div>' if figures else "")
        + section.body
        + paragraphs(section.remarks, "remark")
        + paragraphs(section.missing, "missing")
        + "</section>"
    )


def _figure(panel: Panel, ident: str) -> str:
    broad = HALF if panel.half else WIDE
    drawings = "".join(draw(panel, size, f"{ident}-{size.name}") for size in (broad, NARROW))
    return (
        f'<figure class="{broad.name}"><figcaption>{text(panel.title)}</figcaption>{legend(panel.curves)}'
        f'<p class="unit"><span aria-hidden="true">\u2191</span> {text(panel.y_label)}</p>{drawings}</figure>'
    )


def legend(curves: list[Curve]) -> str:
    """What each labelled curve is."""
    return (
        f'<ul class="legend">{"".join(_entry(c.label, c.colour, c.style) for c in curves if c.label and c.listed)}</ul>'
    )


def _entry(label: str, colour: int, style: str, extra: str = "") -> str:
    kind = f"c{colour % COLOURS}" + (" second" if colour >= COLOURS else "")
    path = '<path class="dots {}" d="M14 6h0"/>' if style == "dots" else '<path class="line {} {}" d="M2 6H26"/>'
    drawn = path.format(kind) if style == "dots" else path.format("dashed" if style == "dashed" else "solid", kind)
    return f'<li><svg viewBox="0 0 28 12" aria-hidden="true">{drawn}</svg><span>{text(label)}{text(extra)}</span></li>'


def _notes(runs: list[Run]) -> str:
    """What a reader should know about the logs."""
    lines = [f"{run.name}: {note}" for run in runs for note in run.notes]
    if not lines:
        return ""
    return f'<section id="notes"><h2>Notes on the logs</h2>{paragraphs(lines, "remark")}</section>'
