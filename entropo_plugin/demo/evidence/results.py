"""``python -m entropo_plugin.demo.evidence.results``: the table and the picture of finished runs.

Means over seeds with 95 % intervals (Student's t over seeds), differences from GRPO paired by seed, and the frontier:
the arms that no other arm beats in both reward and different right answers.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from entropo_plugin.demo.evidence.arms import EVERY
from entropo_plugin.demo.evidence.measure import mean
from entropo_plugin.demo.evidence.rows import read
from entropo_plugin.demo.evidence.tasks import named

Row = dict[str, str]
AGAINST = "grpo"
SHOWN = {
    "trained_pass1": "reward",
    "trained_distinct": "distinct right",
    "held_out_pass1": "held out: reward",
    "held_out_distinct": "held out: distinct right",
    "held_out_pass64": "held out: pass@64",
    "entropy_end": "entropy, nats",
}


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and half the width of its 95 % interval, NaN for a single seed."""

    mean: float
    half: float
    seeds: int

    def __str__(self) -> str:
        digits = 2 if abs(self.mean) < 2 else 1
        return f"{self.mean:.{digits}f} ± {self.half:.{digits}f}" if self.seeds > 1 else f"{self.mean:.{digits}f}"


def spread(values: list[float]) -> Spread:
    """Mean and interval of independent values; NaN values (a run without a right answer) are left out."""
    from entropo_plugin.monitor.student import student_t

    kept = [value for value in values if not math.isnan(value)]
    n = len(kept)
    if n < 2:
        return Spread(mean(kept), math.nan, n)
    centre = mean(kept)
    variance = sum((value - centre) ** 2 for value in kept) / (n - 1)
    return Spread(centre, student_t(n - 1) * math.sqrt(variance / n), n)


@dataclass(frozen=True)
class Result:
    """The runs of one arm at one learning rate."""

    arm: str
    rate: str
    rows: list[Row]

    def of(self, column: str) -> Spread:
        """A column over the seeds."""
        return spread([float(row[column]) for row in self.rows])

    def beyond(self, other: Result, column: str) -> Spread:
        """The difference of a column from another arm's, over the seeds that both have."""
        theirs = {row["seed"]: float(row[column]) for row in other.rows}
        return spread([float(row[column]) - theirs[row["seed"]] for row in self.rows if row["seed"] in theirs])

    @property
    def name(self) -> str:
        """The arm, and its learning rate where that is not the task's."""
        return self.arm if float(self.rate) == 1 else f"{self.arm}, rate x{float(self.rate):g}"

    @property
    def seeds(self) -> str:
        """How many runs, and how many of them end with a reward below .1."""
        dead = sum(float(row["dead"]) > 0 for row in self.rows)
        return f"{len(self.rows)}, {dead} dead" if dead else str(len(self.rows))


def results(rows: Iterable[Row], task: str, after: str = "") -> list[Result]:
    """The arms of a task in the order of ``EVERY``, then by learning rate."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["task"] == task and row["after"] == after and not row["error"]:
            found[row["arm"], row["rate"]].append(row)
    order = [*EVERY]
    ranked = sorted(found, key=lambda pair: (order.index(pair[0]) if pair[0] in order else len(order), float(pair[1])))
    return [Result(*pair, found[pair]) for pair in ranked]


def frontier(found: list[Result], x: str, y: str) -> list[Result]:
    """Those whose mean no other's beats in both columns, from the smallest ``x`` on."""
    best: list[Result] = []
    for each in sorted(found, key=lambda r: (r.of(x).mean, r.of(y).mean), reverse=True):
        if not best or each.of(y).mean > best[-1].of(y).mean:
            best.append(each)
    return best[::-1]


def table(found: list[Result]) -> str:
    """Markdown: one row an arm, those of the frontier in bold."""
    first = {id(each) for each in frontier(found, "trained_distinct", "trained_pass1")}
    head = ["method", *SHOWN.values(), "seeds"]
    lines = [head, ["---"] * len(head)]
    for each in found:
        name = f"**{each.name}**" if id(each) in first else each.name
        lines.append([name, *(str(each.of(column)) for column in SHOWN), each.seeds])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def differences(found: list[Result], rate: str | None = None) -> str:
    """Markdown: what each arm has beyond GRPO, paired by seed, GRPO at its own learning rate."""
    base = next((each for each in found if each.arm == AGAINST and rate in (None, each.rate)), None)
    if base is None:
        return ""
    columns = ("trained_pass1", "trained_distinct", "held_out_pass1", "held_out_distinct")
    lines = [["beyond GRPO", *(SHOWN[column] for column in columns)], ["---"] * (len(columns) + 1)]
    for each in found:
        if each is not base:
            cells = [f"{d.mean:+.2f} ± {d.half:.2f}" for d in (each.beyond(base, column) for column in columns)]
            lines.append([each.name, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _tables(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows that are compared with each other: of one task, one start and one length; other learning rates apart."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        name = f"{row['task']}-after-{row['after']}" if row["after"] else row["task"]
        length = "" if int(row["rollouts"]) == named(row["task"]).rollouts else f"-{row['rollouts']}-batches"
        found[f"{name}{length}{'' if float(row['rate']) == 1 else '-rates'}"].append(row)
    return found


def main() -> int:
    """Print the tables of a file and draw its picture."""
    from entropo_plugin.demo.evidence.picture import draw

    parser = argparse.ArgumentParser(prog="python -m entropo_plugin.demo.evidence.results", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path("runs/evidence/results.csv"))
    parser.add_argument("--out", type=Path, help="folder of tables and pictures (default: beside the file)")
    o = parser.parse_args()
    out = o.out or o.file.parent
    for name, rows in _tables(read(o.file)).items():
        found = results(rows, rows[0]["task"], rows[0]["after"])
        text = f"{table(found)}\n\n{differences(found)}\n"
        print(f"## {name}\n\n{text}")
        print(draw(found, name, out / f"{name}.png"))
        (out / f"{name}.txt").write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
