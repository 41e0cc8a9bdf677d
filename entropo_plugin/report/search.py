"""Looks for logs below a folder, and for the side files beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from entropo_plugin.side_file import RUN, TOKENS

EVENTS = "tfevents"
# transformers' own log, in each of its checkpoints
STATE = "trainer_state.json"
# verl's file logger, packed or not, and W&B's exports
LOGS = (".jsonl", ".jsonl.gz", ".csv", ".wandb")
Item = TypeVar("Item")
CHECKPOINT = re.compile(r"checkpoint-([0-9]{1,18})")


def is_events(path: Path) -> bool:
    """Whether this is one of TensorBoard's event files, by its name."""
    return EVENTS in path.name


def is_log(path: Path) -> bool:
    """Whether a file may be a log, by its name."""
    return is_events(path) or path.name == STATE or (path.name.endswith(LOGS) and not is_side_file(path))


def is_side_file(path: Path) -> bool:
    """Whether a file is what a run writes beside its log, by its name."""
    return any(path.name == name or path.name.endswith(f".{name}") for name in (TOKENS, RUN))


def folders(path: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder below a path, itself included, with what may be logs in it; hidden ones are passed over. Or a file.

    Links are followed, each folder once. The checkpoints of one TRL run are one run: the newest has its whole log.
    """
    seen = set()
    if not path.is_dir():
        yield path, [path]
    for folder, below, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted((name for name in below if not name.startswith(".")), key=natural)
        files = [Path(folder, name) for name in names]
        checkpoints = _checkpoints(Path(folder), below)
        below[:] = [name for name in below if name not in checkpoints]
        if checkpoints and STATE not in names and not _has_events(Path(folder, "runs")):
            files.append(Path(folder, checkpoints[-1], STATE))
        if logs := [file for file in files if is_log(file)]:
            yield Path(folder), logs


def _checkpoints(folder: Path, names: list[str]) -> list[str]:
    """TRL's checkpoints, the newest last."""
    steps = {int(match[1]): name for name in names if (match := CHECKPOINT.fullmatch(name))}
    return [steps[step] for step in sorted(steps) if (folder / steps[step] / STATE).is_file()]


def _has_events(folder: Path) -> bool:
    """Whether TensorBoard's events lie in a folder or below: they go on after the last checkpoint."""
    return any(is_events(Path(name)) for _, _, names in os.walk(folder) for name in names)


def home(log: Path) -> Path:
    """The folder that a run is called after: TRL writes its log one or two folders below."""
    folder = log.parent
    if log.name == STATE and CHECKPOINT.fullmatch(folder.name):
        return folder.parent
    return folder.parent.parent if is_events(log) and folder.parent.name == "runs" else folder


def inputs(path: Path) -> Iterator[Path]:
    """Every file that the report of a path may read."""
    for folder, logs in folders(path):
        yield from logs
        yield from filter(is_side_file, (folder if folder.is_dir() else folder.parent).glob("*.json*"))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by their size."""
    pieces = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(pieces)]


def grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    """Items of one key together, in the order of the first."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
