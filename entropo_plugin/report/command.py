"""The command ``entropo report``: read runs, draw them, and draw them again while they go on."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from entropo_plugin.report.attempts import ReportError
from entropo_plugin.report.page import build, render
from entropo_plugin.report.png import write_pngs
from entropo_plugin.report.runs import Run, read_runs

EVERY = 10.0
OUT = "entropo-report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments, on a parser of its own or of the whole command line."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="file log (.jsonl), TensorBoard folder, or folder of attempts"
    )
    parser.add_argument("--out", metavar="FILE.html", default=OUT, help=f"the report to write (default {OUT})")
    parser.add_argument(
        "--png", metavar="DIR", help="also write the main pictures as PNG files (needs the extra: report)"
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
    found = float(value)
    if not 0 < found < 1e6:
        raise argparse.ArgumentTypeError(f"{value}: expected a positive number of seconds")
    return found


def main(argv: list[str]) -> int:
    """Run ``entropo report`` with these arguments; returns its exit status."""
    parser = argparse.ArgumentParser(prog="entropo report", description="Draw one run, or several side by side.")
    add_arguments(parser)
    return run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> int:
    """Run the command with parsed arguments; returns its exit status."""
    try:
        if options.watch is not None:
            return watch(options)
        once(options)
    except (ReportError, OSError) as error:
        print(f"entropo report: {error}", file=sys.stderr)
        return 2
    return 0


def once(options: argparse.Namespace, refresh: float | None = None) -> None:
    """Read, draw, write, and say what was written."""
    runs = read_runs(options.runs)
    sections = build(runs)
    out = Path(options.out)
    write_whole(out, render(runs, sections, refresh))
    _say(runs, out)
    for path in write_pngs(sections, Path(options.png)) if options.png else ():
        print(f"picture: {path}", flush=True)


def _say(runs: list[Run], out: Path) -> None:
    for each in runs:
        print(f"{each.name}: to step {each.last_step}", flush=True)
        for note in each.notes:
            print(f"note: {each.name}: {note}", file=sys.stderr, flush=True)
    print(f"report: {out}", flush=True)


def watch(options: argparse.Namespace) -> int:
    """Draw whenever a log has changed; at Ctrl-C once more, as a page that no longer reloads."""
    seen: object = None
    try:
        while True:
            now = stamp(options.runs)
            if now != seen:
                seen = now
                _try_once(options)
            time.sleep(options.watch)
    except KeyboardInterrupt:
        _try_once(options, last=True)
        return 0


def _try_once(options: argparse.Namespace, last: bool = False) -> None:
    """A run that cannot be read yet is waited for."""
    try:
        once(options, None if last else options.watch)
    except (ReportError, OSError) as error:
        print(f"waiting: {error}", file=sys.stderr, flush=True)


def stamp(paths: list[str]) -> list[tuple[str, int, int]]:
    """Sizes and times of all files that the runs may consist of."""
    files = []
    for path in map(Path, paths):
        files += [path] if path.is_file() else [each for each in (*path.glob("*"), *path.glob("*/*")) if each.is_file()]
    found = []
    for file in sorted(files):
        try:
            found.append((str(file), file.stat().st_size, file.stat().st_mtime_ns))
        except OSError:
            continue
    return found


def write_whole(path: Path, content: str) -> None:
    """Replace a file in one move, so that whoever reads it sees the old page or the new one and never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(content)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
