"""What the report of a long run costs: seconds of `entropo report` on 100,000 steps of 60 metrics, and the page's size.

Run: python tests/benchmarks/report_cost.py [STEPS]. Prints one line of JSON; fails above 5 s of CPU (what an idle
core takes) or 1 MB.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# What entropo_plugin and verl log for every step; 40 are drawn, the rest are passed over.
DRAWN = [
    *("entropo/entropy/token_mean", "actor/entropy", "critic/score/mean", "critic/rewards/mean", "entropo/target"),
    *("entropo/zeta", "entropo/zeta_next", "entropo/zeta_at_bound", "entropo/diversity/equal_share"),
    *("entropo/dynamics/predicted", "entropo/dynamics/from_positive", "entropo/dynamics/from_negative"),
    *(f"entropo/entropy/{level}" for level in ("q05", "q25", "q50", "q75", "q95", "right_answers")),
    *(f"entropo/pass_at/{k}" for k in (1, 2, 4, 8)),
    *("actor/grad_norm", "actor/ppo_kl", "actor/pg_clipfrac", "response_length/mean", "timing_s/step"),
    *("perf/total_num_tokens", "perf/time_per_step", "entropo/diversity/right_responses", "entropo/monitor/seconds"),
    *(f"entropo/other/{number}" for number in range(9)),
]
OTHERS = [f"critic/other/{number}" for number in range(60 - len(DRAWN))]
BUDGET = {"cpu_seconds": 5.0, "page_bytes": 1_000_000}


def write_log(path, steps):
    """A falling entropy and a rising reward, with noise."""
    noise = np.random.default_rng(0).random((steps, len(DRAWN) + len(OTHERS)))
    with path.open("w") as log:
        for step, row in enumerate(noise.tolist(), 1):
            data = dict(zip(DRAWN + OTHERS, row, strict=True))
            data["entropo/entropy/token_mean"] = math.exp(-step / steps) + 0.1 * row[0]
            if step % 50 == 0:
                data |= {"val-core/maths/acc/mean@8": step / steps, "val-core/maths/acc/best@8/mean": 0.9}
            log.write(json.dumps({"step": step, "data": data}) + "\n")


def measure(steps=100_000):
    with tempfile.TemporaryDirectory() as folder:
        log, page = Path(folder, "metrics.jsonl"), Path(folder, "report.html")
        write_log(log, steps)
        command = [sys.executable, "-m", "entropo_plugin.cli", "report", str(log), "--out", str(page)]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "steps": steps,
            "log_bytes": log.stat().st_size,
            "seconds": round(time.perf_counter() - started, 2),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
            "page_bytes": page.stat().st_size,
        }


if __name__ == "__main__":
    found = measure(*map(int, sys.argv[1:2]))
    print(json.dumps(found))
    sys.exit(any(found[name] > most for name, most in BUDGET.items()))
