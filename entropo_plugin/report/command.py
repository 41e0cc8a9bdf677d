"""The command ``entropo report``: read runs, draw them, and draw them again while they go on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from entropo_plugin.report.files import ReportError
from entropo_plugin.report.findings import findings
from entropo_plugin.report.output import check_out, write_whole
from entropo_plugin.report.page import build, render
from entropo_plugin.report.png import write_pngs
from entropo_plugin.report.run import Run
from entropo_plugin.report.runs import GIVE, read_runs
from entropo_plugin.report.search import inputs
from entropo_plugin.report.verdict import as_json, status
from entropo_plugin.report.watch import watch
from entropo_plugin.report.words import one_line

EVERY = 10.0
# Real trainings of 36 steps each on two cores: stock GRPO and two objectives, as `entropo demo` makes them.
EXAMPLE = Path(__file__).parent / "example"
OUT = "entropo-report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments, on a parser of its own or of the whole command line."""
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="file log (.jsonl, .jsonl.gz), TensorBoard folder, W&B's offline folder or CSV, or a folder of runs",
    )
    parser.add_argument(
        "--demo", action="store_true", help="draw the three trainings of `entropo demo` that the package ships; no RUN"
    )
    parser.add_argument("--out", metavar="FILE.html", help=f"the report to write, or a folder for it (default {OUT})")
    parser.add_argument(
        "--png", metavar="DIR", help="also write the main pictures as PNG files (needs the extra: report)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the findings as JSON, and a page only with --out; exit status 1 where a finding is bad",
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=seconds,
        const=EVERY,
        help=f"draw again whenever a run goes on, looking every SECONDS (default {EVERY:g}), until Ctrl-C",
    )


def seconds(value: str) -> float:
    """A positive number of seconds."""
    number = float(value)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{value}: expected a positive number of seconds")
    return number


def main(argv: list[str]) -> int:
    """Run ``entropo report`` with these arguments; returns its exit status."""
    parser = argparse.ArgumentParser(prog="entropo report", description="Draw one run, or several side by side.")
    add_arguments(parser)
    return run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> int:
    """Run the command with parsed arguments; returns its exit status."""
    try:
        if options.demo == bool(options.runs):
            raise ReportError(f"Give either --demo or runs: {GIVE}.")
        if options.demo:
            options.runs = [str(run) for run in sorted(EXAMPLE.iterdir())]
        if options.json and options.watch is not None:
            raise ReportError("--json says once what the findings are; leave --watch out.")
        options.page = _page(options)
        if options.page:
            check_out(options.page, (file for path in options.runs for file in inputs(Path(path))))
        if options.watch is not None:
            return watch(lambda refresh: attempt(options, refresh), options.runs, options.watch)
        return once(options)
    except (ReportError, OSError) as error:
        say_error("entropo report", error)
        return 2


def _page(options: argparse.Namespace) -> Path | None:
    """The file to write; a folder that exists, or a name with a slash at its end, takes the usual name in it."""
    named = Path(options.out or OUT)
    inside = named.is_dir() or str(options.out).endswith("/")
    return None if options.json and not options.out else named / OUT if inside else named


def attempt(options: argparse.Namespace, refresh: float | None) -> None:
    """Draw while the runs are being written; one that cannot be read yet is waited for."""
    try:
        once(options, refresh)
    except (ReportError, OSError) as error:
        say_error("waiting", error)


def once(options: argparse.Namespace, refresh: float | None = None) -> int:
    """Read, draw, write, and say what was written, beside JSON on stderr; returns the exit status."""
    runs = read_runs(options.runs)
    for each in runs:
        for note in each.notes:
            say(f"note: {each.name}: {note}", sys.stderr)
    if options.json:
        print(as_json(runs, findings(runs)), flush=True)
    for each in runs if not options.json else ():
        say(f"{each.name}: to step {each.last_step}", sys.stdout)
    for line in _draw(options, runs, refresh):
        say(line, sys.stderr if options.json else sys.stdout)
    return status(findings(runs)) if options.json else 0


def _draw(options: argparse.Namespace, runs: list[Run], refresh: float | None) -> Iterator[str]:
    """Write the page and the pictures that are asked for, and name them."""
    sections = build(runs) if options.page or options.png else []
    if options.page:
        write_whole(options.page, render(runs, sections, refresh))
        yield f"report: {options.page}"
    if options.png:
        yield from (f"picture: {path}" for path in write_pngs(sections, Path(options.png)))


def say_error(who: str, error: Exception) -> None:
    """An error's lines on stderr."""
    first, *others = error.args if isinstance(error, ReportError) else [str(error)]
    for line in (f"{who}: {first}", *others):
        say(str(line), sys.stderr)


def say(line: str, stream: TextIO) -> None:
    """One line, with what neither a terminal nor its encoding can show replaced."""
    encoding = stream.encoding or "utf-8"
    print(one_line(line).encode(encoding, "replace").decode(encoding), file=stream, flush=True)
