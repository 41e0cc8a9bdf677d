"""``python -m entropo_plugin.demo.evidence``: run what is missing of the comparison, and print its table."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from entropo_plugin.demo.evidence import tasks
from entropo_plugin.demo.evidence.arms import ARMS, EVERY, STUDIES

# choices were made on other seeds than those that are reported
TUNED_ON, REPORTED = [100, 101], [0, 1, 2, 3, 4]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(prog="python -m entropo_plugin.demo.evidence", description=__doc__)
    made.add_argument("--tasks", nargs="+", choices=[*tasks.NAMES, *tasks.FURTHER], default=[*tasks.NAMES])
    made.add_argument("--arms", nargs="+", choices=[*EVERY], default=[*ARMS], metavar="ARM")
    made.add_argument("--study", choices=[*STUDIES], help="the arms of a study of its own in place of --arms")
    made.add_argument("--rates", nargs="+", type=float, default=[1.0], help="multiples of the task's learning rate")
    made.add_argument("--seeds", nargs="+", type=int, default=REPORTED)
    made.add_argument("--rollouts", type=int, help="rollout batches of each run (default: the task's)")
    made.add_argument("--after", default="", metavar="TASK", help="start from the models of finished runs on TASK")
    made.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at once, each on one core")
    made.add_argument("--out", type=Path, default=Path("runs/evidence"))
    return made


def main() -> int:
    """Run the command."""
    from entropo_plugin.demo.evidence.runner import planned, run_all

    o = parser().parse_args()
    arms = [*STUDIES[o.study]] if o.study else o.arms
    plan = planned(o.tasks, arms, o.rates, o.seeds, o.rollouts, o.after)
    try:
        failed = run_all(plan, o.out.resolve(), o.workers)
    except KeyboardInterrupt:
        print(f"\nInterrupted. The same command goes on where it stopped; rows so far are in {o.out}/results.csv.")
        return 130
    if failed:
        print(f"{failed} runs failed: see the column error of {o.out}/results.csv. The same command tries them again.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
