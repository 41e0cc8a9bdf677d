"""Every law in a simulated closed loop: how far entropy is from its target, in four settings and for three targets.

Run: make control. Prints a Markdown table; each cell has the settings S1/S2/S2s/S3 of simulation.py: the mean over five
seeds of the rms error over steps 50 to 100, in % of the target; the share of these steps with it at its bound
or without authority (all rewards equal); the reward of the last 15 steps. `--laws TEXT`, `--seeds N` and
`--settings S1,S3` take a part of it; `--at-once .6` has one target instead of the three, wanted from the first step on.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from simulation import RAMP, SETTINGS, Simulation
from steering import LAWS

# share of the first entropy, and the steps of the way to it
TARGETS = {"hold": (1.0, RAMP), "ramp to 50 %": (0.5, RAMP), "ramp to 120 %": (1.2, RAMP)}
STEPS, FIRST, LAST = 100, 50, 15


def measure(job: tuple[str, str, tuple[float, int], int]) -> tuple[float, float, float]:
    """Error in %, share at a bound in %, and reward of one law in one setting."""
    law, setting, (share, ramp), seeds = job
    trace = Simulation(SETTINGS[setting], LAWS[law](seeds), share, list(range(seeds)), ramp).run(STEPS)
    at_bound = 100 * trace.at_bound[:, FIRST:].mean()
    return float(trace.rms(FIRST).mean()), float(at_bound), float(trace.reward[:, -LAST:].mean())


def cell(values: list[tuple[float, float, float]]) -> str:
    errors, bounds, rewards = zip(*values, strict=True)
    return " · ".join(
        "/".join(format(value, form) for value in column)
        for column, form in ((errors, ".1f"), (bounds, ".0f"), (rewards, ".2f"))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--laws", default="", help="only the laws whose name contains this")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--at-once", type=float, help="a share of the first entropy")
    asked = parser.parse_args()
    settings, laws = asked.settings.split(","), [law for law in LAWS if asked.laws in law]
    targets = {f"{asked.at_once:.0%} at once": (asked.at_once, 0)} if asked.at_once else TARGETS
    products = itertools.product(laws, targets.values(), settings)
    jobs = [(law, setting, target, asked.seeds) for law, target, setting in products]
    print("| law | " + " | ".join(targets) + " |\n|" + "---|" * (1 + len(targets)))
    print(f"| {'/'.join(settings)} |" + " error % · at bound % · reward |" * len(targets), flush=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.imap(measure, jobs)
        for law in laws:
            row = [cell(list(itertools.islice(results, len(settings)))) for _ in targets]
            print(f"| {law} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
