"""The whole report as one HTML file that needs nothing else and may do nothing else."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import metadata
from importlib.resources import files
from operator import attrgetter
from typing import Any

from entropo_plugin import __version__
from entropo_plugin.report.figure import Section
from entropo_plugin.report.findings import findings
from entropo_plugin.report.payload import looks, payload
from entropo_plugin.report.run import Run
from entropo_plugin.report.search import grouped
from entropo_plugin.report.sections import SECTIONS
from entropo_plugin.report.sections.tokens import shown
from entropo_plugin.report.tokens import CostlyToken
from entropo_plugin.report.verdict import verdict
from entropo_plugin.report.words import clean, count, number

STYLES, SCRIPTS = ("uplot/uPlot.min.css", "style.css"), ("uplot/uPlot.min.js", "app.js")
LEVELS = 5


def build(runs: list[Run]) -> list[Section]:
    """Every section of the report."""
    return [section(runs) for section in SECTIONS]


def render(runs: list[Run], sections: list[Section], refresh: float | None = None) -> str:
    """The page; with ``refresh`` it loads itself anew after that many seconds."""
    style, script = ("\n".join(map(_asset, names)) for names in (STYLES, SCRIPTS))
    found = findings(runs)
    return _template().render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared",
        names=", ".join(run.name for run in runs),
        runs=list(zip(runs, looks(runs), [verdict(run, found) for run in runs], strict=True)),
        findings=list(grouped(found, attrgetter("mood", "headline")).values()),
        overview=sections[0],
        sections=[each for each in sections[1:] if each.panels or each.tables or each.excerpts],
        missing=[line for each in sections for line in each.missing],
        policy=policy(style, script),
        style=style,
        script=script,
        data=payload(runs, sections),
        refresh=max(1, round(refresh)) if refresh else None,
        docs=_documentation(),
        now=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
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


@cache
def _template() -> Any:
    """Jinja's, which escapes whatever it prints; before that it is cleaned."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, finalize=clean, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "count": count, "shown": shown}
    environment.globals["heat"] = heat
    environment.tests["token"] = lambda piece: isinstance(piece, CostlyToken)
    return environment.from_string(_asset("page.html"))


def heat(cost: float, most: float) -> int:
    """A token's shade, 1 to LEVELS, by its cost against the run's costliest."""
    return max(1, min(LEVELS, round(LEVELS * cost / most))) if most > 0 else 1


def _documentation() -> str | None:
    """The address of the documentation, where the package names one."""
    addresses = metadata("entropo-plugin").get_all("Project-URL") or []
    return next((each.split(", ")[1].rstrip("/") for each in addresses if each.startswith("Documentation, ")), None)
