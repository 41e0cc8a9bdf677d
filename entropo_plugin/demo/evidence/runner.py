"""Runs what of arms x rates x seeds x tasks is not in the table yet, several at once; it may be stopped at any time."""

from __future__ import annotations

import csv
import itertools
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from entropo_plugin.demo.evidence.arms import EVERY
from entropo_plugin.demo.evidence.rows import Table, key, versions
from entropo_plugin.demo.evidence.tasks import named
from entropo_plugin.demo.evidence.train import Job


@dataclass(frozen=True)
class Planned:
    """One run to be: its task, its job without a start, and the task that this arm was trained on before, if any."""

    task: str
    job: Job
    after: str = ""

    @property
    def identity(self) -> dict[str, str]:
        """The key columns of its row."""
        return key(self.task, EVERY[self.job.arm], self.job, self.after)

    def folder(self, out: Path) -> Path:
        """Where its curves and its model go."""
        return folder_of(out, self.identity)

    def start(self, out: Path) -> Path:
        """The model that it starts from; a first one is made here where it is missing."""
        from entropo_plugin.demo.evidence import model

        if self.after:
            return replace(self, task=self.after, after="").folder(out) / "model"
        return model.start(named(self.task), self.job.seed, out / "starts")


def folder_of(out: Path, row: Mapping[str, str]) -> Path:
    """The folder of a row's run."""
    arm = "".join(c if c.isalnum() or c in ".-" else "_" for c in row["arm"])
    task = f"{row['after']}-{row['task']}" if row["after"] else row["task"]
    return out / "runs" / f"{task}-{arm}-{row['rate']}-{row['seed']}"


def planned(
    tasks: Iterable[str],
    arms: Iterable[str],
    rates: Iterable[float],
    seeds: Iterable[int],
    rollouts: int | None = None,
    after: str = "",
) -> list[Planned]:
    """Every combination; the arms of one seed side by side, so that half a table compares like with like."""
    every = itertools.product(tasks, seeds, rates, arms)
    return [
        Planned(task, Job(arm, rate, seed, rollouts or named(task).rollouts, Path()), after)
        for task, seed, rate, arm in every
    ]


def run_all(plan: list[Planned], out: Path, workers: int) -> int:
    """Run what is missing; returns how many failed."""
    from tqdm import tqdm

    table = Table(out / "results.csv")
    missing = [each for each in plan if not table.has(each.identity)]
    note = {
        "versions": versions(),
        "command": shlex.join(["python", "-m", "entropo_plugin.demo.evidence", *sys.argv[1:]]),
    }
    failed = 0
    with tqdm(total=len(plan), initial=len(plan) - len(missing), desc="evidence", unit="run", smoothing=0) as bar:
        for each, found in _results(missing, out, workers):
            table.add(each.identity | note | found)
            failed += bool(found.get("error"))
            bar.set_postfix_str(f"{each.task}, {each.job.arm}, seed {each.job.seed}")
            bar.update()
    return failed


def _results(plan: list[Planned], out: Path, workers: int) -> Iterator[tuple[Planned, dict[str, Any]]]:
    """Rows in the order in which the runs end; a pool is closed without waiting when the caller is interrupted."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start)
    try:
        waiting: dict[Future, Planned] = {pool.submit(run_one, each, out): each for each in plan}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start() -> None:
    from entropo_plugin.demo.evidence import train  # imports torch and TRL

    train.settle()


def run_one(planned: Planned, out: Path) -> dict[str, Any]:
    """Train and measure in this process; an error becomes the row's ``error``."""
    from entropo_plugin.demo.evidence import train

    task, folder = named(planned.task), planned.folder(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        job = replace(planned.job, start=planned.start(out))
        row, curve = train.run(task, EVERY[job.arm], job, folder)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    with (folder / "curve.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["rollout", *curve[0]])
        writer.writeheader()
        writer.writerows({"rollout": i + 1} | {n: f"{v:.5g}" for n, v in each.items()} for i, each in enumerate(curve))
    return row
