"""Starting, watching and killing verl in the end-to-end tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def overrides_for(made: Path, where: Path, steps: int) -> list[str]:
    return [
        "+cpu=tiny",
        f"actor_rollout_ref.model.path={made / 'model'}",
        f"data.train_files={made / 'train.parquet'}",
        f"data.val_files={made / 'test.parquet'}",
        "reward.custom_reward_function.path=pkg://entropo_plugin.demo.task",
        f"trainer.default_local_dir={where.parent / 'checkpoints'}",
        f"trainer.total_training_steps={steps}",
    ]


def start(command, folder, **variables):
    """A child process in its own session; its output goes to a file in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "out.txt", "wb") as out:
        environment = os.environ | variables
        return subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env=environment, start_new_session=True)


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"did not happen within {seconds} s")


def main_ppo(made, where, steps, *overrides):
    return [
        sys.executable,
        "-m",
        "verl.trainer.main_ppo",
        f"hydra.run.dir={where / 'hydra'}",
        *overrides_for(made, where, steps),
        *overrides,
    ]


def kill(child):
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
