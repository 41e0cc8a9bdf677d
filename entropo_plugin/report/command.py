"""The command ``entropo report``: read runs, draw them, and draw them again while they go on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TextIO

from entropo_plugin.report.files import ReportError
from entropo_plugin.report.findings import findings
from entropo_plugin.report.output import check_out, write_whole
from entropo_plugin.report.page import build, render
from entropo_plugin.report.png import write_pngs
from entropo_plugin.report.runs import GIVE, Run, read_runs
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
        if options.out or not options.json:
            check_out(_out(options), (file for path in options.runs for file in inputs(Path(path))))
        if options.watch is not None:
            return watch(lambda refresh: attempt(options, refresh), options.runs, options.watch)
        return once(options)
    except (ReportError, OSError) as error:
        say_error("entropo report", error)
        return 2


def attempt(options: argparse.Namespace, refresh: float | None) -> None:
    """Draw while the runs are being written; one that cannot be read yet is waited for."""
    try:
        once(options, refresh)
    except (ReportError, OSError) as error:
        say_error("waiting", error)


def once(options: argparse.Namespace, refresh: float | None = None) -> int:
    """Read, draw, write, and say what was written; returns the exit status."""
    runs = read_runs(options.runs)
    said = [line for each in runs for line in (f"note: {each.name}: {note}" for note in each.notes)]
    for line in said:
        say(line, sys.stderr)
    if options.json:
        print(as_json(runs, findings(runs)), flush=True)
    if options.out or options.png or not options.json:
        _draw(options, runs, refresh)
    return status(findings(runs)) if options.json else 0


def _draw(options: argparse.Namespace, runs: list[Run], refresh: float | None) -> None:
    """The page and the pictures; beside JSON nothing else goes to stdout."""
    sections = build(runs)
    stream = sys.stderr if options.json else sys.stdout
    if not options.json:
        for each in runs:
            say(f"{each.name}: to step {each.last_step}", sys.stdout)
    if options.out or not options.json:
        write_whole(_out(options), render(runs, sections, refresh))
        say(f"report: {_out(options)}", stream)
    for path in write_pngs(sections, Path(options.png)) if options.png else ():
        say(f"picture: {path}", stream)


def _out(options: argparse.Namespace) -> Path:
    """The file to write; a folder that exists, or a name with a slash at its end, takes the usual name in it."""
    named = Path(options.out or OUT)
    return named / OUT if named.is_dir() or str(options.out).endswith("/") else named


def say_error(who: str, error: Exception) -> None:
    """An error's lines on stderr."""
    first, *others = error.args if isinstance(error, ReportError) else [str(error)]
    for line in (f"{who}: {first}", *others):
        say(str(line), sys.stderr)


def say(line: str, stream: TextIO) -> None:
    """One line, with what neither a terminal nor its encoding can show replaced."""
    encoding = stream.encoding or "utf-8"
    print(one_line(line).encode(encoding, "replace").decode(encoding), file=stream, flush=True)
