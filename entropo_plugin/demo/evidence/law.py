"""``python -m entropo_plugin.demo.evidence.law``: the law R = -a exp(H) + b of the first half of a run, on its second.

Rewards and entropies of finished runs, averaged over five rollout batches, in the order in which they came. The law
(arXiv 2505.22617, equation 6) is one of runs without entropy control.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from pathlib import Path

from entropo_plugin.demo.evidence.measure import mean
from entropo_plugin.demo.evidence.rows import read
from entropo_plugin.demo.evidence.runner import folder_of

OVER = 5
Pairs = list[tuple[float, float]]


def pairs(curve: Path, over: int = OVER) -> Pairs:
    """(entropy, reward) of a run, means over so many rollout batches."""
    with curve.open(newline="") as file:
        steps = [(float(row["entropy"]), float(row["reward"])) for row in csv.DictReader(file)]
    blocks = [steps[i : i + over] for i in range(0, len(steps) - over + 1, over)]
    return [(mean([h for h, _ in block]), mean([r for _, r in block])) for block in blocks]


def predicted(points: Pairs) -> dict[str, float]:
    """What the first half's fit says of the second: mean error, its size, the share within 95 %, and trust."""
    from entropo_plugin.monitor.law import fit_law, half_interval
    from entropo_plugin.monitor.running_regression import RunningLine

    first, second = points[: len(points) // 2], points[len(points) // 2 :]
    fit = fit_law(first)
    line = RunningLine.through([(math.exp(h), r) for h, r in first])
    if fit.a is None or fit.b is None or line.slope is None:
        return {}
    errors = [fit.b - fit.a * math.exp(h) - r for h, r in second]
    halves = [half_interval(line, line.slope, math.exp(h)) or 0.0 for h, _ in second]
    within = [abs(error) <= half for error, half in zip(errors, halves, strict=True)]
    found = {
        "bias": mean(errors),
        "error": mean([abs(error) for error in errors]),
        "within": mean([*map(float, within)]),
    }
    # the reward at the end, had it stayed what it was in the middle
    return found | {
        "error_of_no_change": mean([abs(first[-1][1] - r) for _, r in second]),
        "trusted": float(fit.trusted),
    }


def main() -> int:
    """Print the table of a folder of runs."""
    parser = argparse.ArgumentParser(prog="python -m entropo_plugin.demo.evidence.law", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/evidence"))
    parser.add_argument("--task", default="sums")
    parser.add_argument("--rate", default="1")
    o = parser.parse_args()
    found = defaultdict(list)
    for row in read(o.out / "results.csv"):
        if (row["task"], row["rate"], row["after"], row["error"]) == (o.task, o.rate, "", ""):
            found[row["arm"]].append(predicted(pairs(folder_of(o.out, row) / "curve.csv")))
    print("| arm | bias | mean error | error of 'no change' | within its 95 % | trusted |\n|---|---|---|---|---|---|")
    for arm, each in found.items():
        kept = [run for run in each if run]
        cells = [
            mean([run[name] for run in kept]) for name in ("bias", "error", "error_of_no_change", "within", "trusted")
        ]
        print(f"| {arm} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
