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
        files = {"stdout": out, "stderr": out}
        return subprocess.Popen(command, **files, cwd=folder, env=environment, start_new_session=True, preexec_fn=heed)


def heed():
    """A script's background jobs inherit SIGINT as ignored; whether the tests run in one must not decide them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition, child):
    """Wait as long as the child lives: how long a step takes is the machine's affair."""
    while not (found := condition()):
        assert child.poll() is None, f"the child ended before, with {child.returncode}"
        time.sleep(0.2)
    return found


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
