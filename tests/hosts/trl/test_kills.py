"""A real training that is killed five times at random instants, and resumed, is the unbroken one bit for bit."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_run import STEPS

from entropo_plugin.hosts.state_file import NAME, read_state

HERE = Path(__file__).parent
KILLS = 5
# each run between two kills begins at most so many steps
MOST = 6
# what a log says of the clock
CLOCK = ("seconds", "time", "per_second")


def start(folder, checkpoint=None):
    command = [sys.executable, str(HERE / "killed_run.py"), str(folder), *([str(checkpoint)] if checkpoint else [])]
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    with open(folder / "errors.log", "a") as errors:
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)


def ended(run):
    """Let a run go on to its end."""
    run.communicate()
    assert run.returncode == 0, "see errors.log"


def killed(run, chance):
    """Kill the run at an instant of one of its next steps, and of what follows that: a save, in every second."""
    said = (line for line in run.stdout if line.startswith("step"))
    begins = [time.monotonic() for _, _ in zip(range(chance.randint(2, MOST)), said, strict=False)]
    time.sleep(chance.uniform(0, 2 * (begins[-1] - begins[0]) / (len(begins) - 1)))
    assert run.poll() is None, "the run ended before it was killed"
    run.kill()
    run.wait()


def newest(folder):
    """The newest checkpoint that TRL finished; half ones are removed, as TRL refuses them."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        state = read_state(path)
        assert state is None or state["step"] == int(path.name.split("-")[1]), "a torn state"
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (FileNotFoundError, ValueError):
            shutil.rmtree(path)
            continue
        assert state is not None, f"{path} is whole and has no {NAME}"
        return path
    return None


def end_of(folder):
    """What a training leaves: weights, optimizer's and our state, and every logged number but the clock's."""
    last = folder / f"checkpoint-{STEPS}"
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    logged = [{name: each for name, each in entry.items() if not name.endswith(CLOCK)} for entry in history]
    return (last / "model.safetensors").read_bytes(), read_state(last), logged


@pytest.mark.scale
def test_killed_five_times_and_resumed_is_the_unbroken_run(tmp_path):
    seed = time.time_ns()
    chance = random.Random(seed)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    ended(start(tmp_path / "whole"))
    resumed_from = []
    for _ in range(KILLS):
        checkpoint = newest(tmp_path / "killed")
        resumed_from.append(checkpoint and checkpoint.name)
        killed(start(tmp_path / "killed", checkpoint), chance)
    print(f"seed {seed}: resumed from {resumed_from[1:]}")
    ended(start(tmp_path / "killed", newest(tmp_path / "killed")))
    weights, state, logged = end_of(tmp_path / "whole")
    again = end_of(tmp_path / "killed")
    assert again[0] == weights
    assert again[1] == state
    assert again[2] == logged
