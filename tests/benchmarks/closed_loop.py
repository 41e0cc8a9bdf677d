"""Every law in a simulated closed loop: how far entropy is from its target, in four settings and for three targets.

Run: make control. Prints a Markdown table; each cell has the settings S1/S2/S2s/S3 of simulation.py: the mean over five
seeds of the rms error over steps 50 to 100, in % of the target; the share of these steps with it at its bound
or without authority (all rewards equal); the reward of the last 15 steps. `--laws TEXT`, `--seeds N` and
`--settings S1,S3` take a part of it.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from simulation import SETTINGS, Simulation
from steering import LAWS

TARGETS = {"hold": 1.0, "ramp to 50 %": 0.5, "ramp to 120 %": 1.2}
STEPS, FIRST, LAST = 100, 50, 15


def measure(job: tuple[str, str, str, int]) -> tuple[float, float, float]:
    """Error in %, share at a bound in %, and reward of one law in one setting."""
    law, setting, target, seeds = job
    trace = Simulation(SETTINGS[setting], LAWS[law](seeds), TARGETS[target], list(range(seeds))).run(STEPS)
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
    asked = parser.parse_args()
    settings, laws = asked.settings.split(","), [law for law in LAWS if asked.laws in law]
    jobs = [(law, setting, target, asked.seeds) for law, target, setting in itertools.product(laws, TARGETS, settings)]
    print("| law | " + " | ".join(TARGETS) + " |\n|" + "---|" * (1 + len(TARGETS)))
    print(f"| {'/'.join(settings)} |" + " error % · at bound % · reward |" * len(TARGETS), flush=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.imap(measure, jobs)
        for law in laws:
            row = [cell(list(itertools.islice(results, len(settings)))) for _ in TARGETS]
            print(f"| {law} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
