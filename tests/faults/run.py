"""Kills real trainings and says what came of it: ``make faults``, or ``python tests/faults/run.py --help``.

driver: kill -9 of the trainer and its entry process at a random moment of rollout, update or save, then resume; the run
that goes on is killed in its turn, so that resumes of resumed runs are tried.
worker, server: kill -9 of the actor's worker or of the rollout server; the run must end by itself, with a clear error,
within 120 s, and leave no process behind.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from judge import MOMENTS, counted, faults, table, window
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from support import main_ppo, overrides_for, start, wait_for

from entropo_plugin import launch
from entropo_plugin.demo import task
from entropo_plugin.hosts.verl.checkpoint import NAME

DRIVER = ["+entropo=repo_r", "actor_rollout_ref.rollout.name=hf", "trainer.save_freq=1", "trainer.resume_mode=auto"]
KEPT = ["trainer.max_actor_ckpt_to_keep=3"]
SERVERS = {"worker": ("hf", "ray::WorkerDict"), "server": ("vllm", "VLLM::EngineCore")}
LIMIT = 120.0
HEADS = ("number", "chain", "moment", "after_step", "resumed_from", "steps_after", "survived", "seconds", "faults")


def kill_chain(made: Path, where: Path, numbers: range, seed: int) -> Iterator[dict]:
    """One training, killed once for each number; the run that goes on after a kill is the next one to be killed.

    A kill is judged when the next run has logged its steps; after the last one a run of three steps ends by itself.
    """
    lines, row, state = [], {}, {}
    for number in numbers:
        known, attempt = kill(made, where / str(number), number, seed)
        if row:
            yield row | judged(lines, attempt, state)
        state = saved_state(where / "checkpoints")
        lines = counted(lines, attempt, state)
        row = known | {"chain": where.name, "resumed_from": state["step"]}
    yield row | judged(lines, go_on(made, where / "last", state["step"] + 3), state)
    shutil.rmtree(where / "checkpoints")


def kill(made: Path, where: Path, number: int, seed: int) -> tuple[dict, list[dict]]:
    """A run that is killed at the moment which the number draws: what is known of the kill, and the logged steps."""
    started, chance = time.monotonic(), random.Random(f"{seed}/{number}")
    moment, after = list(MOMENTS)[number % len(MOMENTS)], chance.randint(2, 5)
    attempt = cut_short(made, where, moment, after, chance)
    seconds = round(time.monotonic() - started)
    return {"number": number, "moment": moment, "after_step": after, "seconds": seconds}, attempt


def go_on(made: Path, where: Path, steps: int) -> list[dict]:
    """A run that ends by itself: its logged steps."""
    launch.train(where, [*overrides_for(made, where, steps), *DRIVER, *KEPT], lambda line: None)
    return steps_of(where / "metrics.jsonl")


def judged(lines: list[dict], attempt: list[dict], state: dict) -> dict:
    """What the run after a kill says of it."""
    found = faults(lines, attempt, state, attempt[-1]["step"])
    return {"survived": not found, "faults": "; ".join(found), "steps_after": len(attempt)}


def saved_state(checkpoints: Path) -> dict:
    """The state in the checkpoint that verl's marker names."""
    step = int((checkpoints / "latest_checkpointed_iteration.txt").read_text())
    return json.loads((checkpoints / f"global_step_{step}" / NAME).read_text())


def cut_short(made: Path, where: Path, moment: str, after: int, chance: random.Random) -> list[dict]:
    """Train until ``after`` steps are logged, kill in the next step's ``moment``, and return what was logged."""
    log, run_id = where / "metrics.jsonl", f"faults-{time.time_ns()}"
    marks = {"VERL_FILE_LOGGER_PATH": str(log), launch.MARK: run_id, "ENTROPO_CPU": "1"}
    child = start(main_ppo(made, where, 1000, *DRIVER, *KEPT), where, **marks)
    try:
        wait_for(lambda: len(steps_of(log)) >= after, child)
        data = steps_of(log)[-1]["data"]
        timing = {name.removeprefix("timing_s/"): each for name, each in data.items() if name.startswith("timing_s/")}
        time.sleep(chance.uniform(*window(timing, moment)))
        for each in [each for each in launch.marked(run_id) if launch.title(each).startswith("ray::TaskRunner")]:
            each.kill()
        child.kill()
        child.wait()
    finally:
        launch.end_all(run_id, child)
    assert not launch.marked(run_id), "processes of the killed run are left"
    return steps_of(log)


def steps_of(log: Path) -> list[dict]:
    """Logged training steps; a line of validation only is none."""
    return [line for line in launch.read_steps(log) if "critic/score/mean" in line["data"]]


def kill_part(made: Path, where: Path, part: str) -> dict:
    """Kill one process after two steps; seconds until the run has ended, and what it said."""
    rollout, name = SERVERS[part]
    at: list[float] = []
    run_id = f"faults-{time.time_ns()}"

    def on_step(line: dict) -> None:
        if line["step"] == 2 and not at:
            victims = [each for each in launch.marked(run_id) if launch.title(each).startswith(name)]
            assert victims, f"no process {name}"
            victims[0].kill()
            at.append(time.monotonic())

    said = "the training ended as if nothing had happened"
    overrides = [*overrides_for(made, where, 1000), "+entropo=repo_r", f"actor_rollout_ref.rollout.name={rollout}"]
    try:
        launch.train(where, overrides, on_step, run_id=run_id)
    except launch.TrainingFailed as error:
        said = str(error).splitlines()[0]
    seconds = time.monotonic() - at[0] if at else float("nan")
    left = [launch.title(each)[:60] for each in launch.marked(run_id)]
    good = seconds <= LIMIT and not left and "as if" not in said
    return {"killed": name, "seconds": round(seconds), "said": said[:200], "left": left, "survived": good}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="repetitions of the driver's kill (default 20)")
    parser.add_argument("--first", type=int, default=0, help="number of the first repetition, to go on with a series")
    parser.add_argument("--chain", type=int, default=5, help="kills of one training, one after the other (default 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--only", choices=("driver", *SERVERS), help="one kind of fault")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    task.make(out / "task", seed=options.seed, steps=120)
    rows: dict[str, list[dict]] = {"driver": [], "parts": []}
    if options.only in (None, "driver"):
        last = options.first + options.kills
        with tqdm(total=options.kills, desc="driver killed") as bar:
            for first in range(options.first, last, options.chain):
                numbers = range(first, min(first + options.chain, last))
                for row in kill_chain(out / "task", out / f"driver-{first:02}", numbers, options.seed):
                    rows["driver"].append(row)
                    write(out, rows, options.seed)
                    bar.update()
    for part in [part for part in SERVERS if options.only in (None, part)]:
        rows["parts"].append(kill_part(out / "task", out / part / "run", part))
        write(out, rows, options.seed)
    print((out / "faults.md").read_text())
    return int(not all(row["survived"] for row in [*rows["driver"], *rows["parts"]]))


def write(out: Path, rows: dict[str, list[dict]], seed: int) -> None:
    """Everything so far, as JSON and as a table."""
    (out / "faults.json").write_text(json.dumps({"seed": seed} | rows, indent=1))
    parts = table(rows["parts"], ("killed", "seconds", "said", "left", "survived"))
    text = f"Seed {seed}.\n\n{table(rows['driver'], HEADS)}\n\n{parts}\n"
    (out / "faults.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
