"""The table of runs: ``results.csv``, one row a run, appended as runs end; what stands in it is not run again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from entropo_plugin.atomic import append_whole, replacing
from entropo_plugin.demo.evidence.arms import Arm
from entropo_plugin.demo.evidence.measure import KS
from entropo_plugin.demo.evidence.train import Job

NUMBERS = ("distinct", "right_entropy", *(f"pass{k}" for k in KS))
KEY = ("task", "arm", "rate", "seed", "rollouts", "after", "settings")
COLUMNS = (
    *KEY, "entropy_start", "entropy_end", "reward_end", "rollouts_to_half", "dead",
    *(f"{kind}_{name}" for kind in ("trained", "held_out") for name in NUMBERS),
    "seconds", "error", "versions", "command",
)  # fmt: skip
PACKAGES = ("entropo-plugin", "trl", "transformers", "torch")


def key(task: str, arm: Arm, job: Job, after: str = "") -> dict[str, str]:
    """What identifies a run; ``after`` names the task that its start was trained on before."""
    settings = json.dumps({"trl": arm.trl, "entropo": arm.entropo, "kl_in_reward": arm.kl_in_reward}, sort_keys=True)
    values = (task, job.arm, f"{job.rate:g}", str(job.seed), str(job.rollouts), after, settings)
    return dict(zip(KEY, values, strict=True))


def versions() -> str:
    """Name and version of what decides the figures."""
    from importlib.metadata import version

    return " ".join(f"{name}={version(name)}" for name in PACKAGES)


class Table:
    """The rows of a file, and its end.

    Raises:
        ValueError: the file has other columns.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(COLUMNS)
        self.rows = read(path)
        _end_line(path)
        self.done = {tuple(row[name] for name in KEY) for row in self.rows if not row["error"]}

    def has(self, identity: Mapping[str, str]) -> bool:
        """Whether that run has ended well."""
        return tuple(identity[name] for name in KEY) in self.done

    def add(self, row: Mapping[str, Any]) -> None:
        """One run; its line is whole or not there."""
        self._append(_cell(row.get(name, "")) for name in COLUMNS)

    def _append(self, cells: Iterable[str]) -> None:
        line = io.StringIO()
        csv.writer(line).writerow(cells)
        append_whole(self.path, line.getvalue().encode())


def _end_line(path: Path) -> None:
    """Drop the half of a line that a kill left, or the next row would be added to it."""
    whole = path.read_bytes()
    if not whole.endswith(b"\n"):
        with replacing(path) as file:
            file.write(whole[: whole.rfind(b"\n") + 1])


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def read(path: Path) -> list[dict[str, str]]:
    """Every whole row; a line that a kill cut short is left out, and its run is made again."""
    with path.open(newline="") as file:
        reader = csv.DictReader(io.StringIO("".join(line for line in file if line.endswith("\n"))))
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path}: its columns are not those of this version. Move it away, or use another --out.")
        return [*reader]
