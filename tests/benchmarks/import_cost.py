"""What having us installed adds to ``import verl``: medians of alternating fresh processes, so that drift cancels.

Run: make bench. Prints one line of JSON; fails above the budget of 0.3 s.
"""

import json
import os
import statistics
import subprocess
import sys

CODE = "import time; t = time.perf_counter(); import verl; print(time.perf_counter() - t)"
BUDGET = 0.3


def seconds(policy):
    environment = os.environ | {"VERL_USE_EXTERNAL_PLUGINS": policy}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=True)
    return float(done.stdout.split()[-1])


def measure(repeats=7):
    pairs = [(seconds("none"), seconds("auto")) for _ in range(repeats)]
    without, with_us = (statistics.median(column) for column in zip(*pairs, strict=True))
    added = statistics.median(b - a for a, b in pairs)
    return {"import_verl_s": without, "with_entropo_s": with_us, "added_s": added, "ratio": with_us / without}


if __name__ == "__main__":
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))
    sys.exit(found["added_s"] > BUDGET)
