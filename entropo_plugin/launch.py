"""One verl training as a child process that can be watched, and that leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

MARK = "ENTROPO_RUN_ID"
# Titles of the processes that a run cannot do without, as Ray and vLLM set them.
VITAL = (
    "ray::TaskRunner",
    "ray::WorkerDict",
    "ray::AgentLoopWorker",
    "ray::vLLMHttpServer",
    "ray::TransformersServer",
    "VLLM::EngineCore",
    "VLLM::Worker",
)
GRACE = 60.0


class TrainingFailed(RuntimeError):
    """The training ended badly or stopped moving; the message says where its log is."""


class Vital:
    """Notices that a worker or a rollout server is gone while the driver waits for it.

    Args:
        run_id: the run's mark.
        grace: seconds that the driver has to end by itself, with its own error.
    """

    def __init__(self, run_id: str, grace: float = GRACE):
        self.run_id, self.grace = run_id, grace
        self.seen: dict[int, str] = {}
        self.gone: dict[int, float] = {}
        self.looked = 0.0

    def check(self, every: float = 3.0) -> None:
        """Look at the run's processes, at most once in ``every`` seconds.

        Raises:
            TrainingFailed: a vital process has been gone for ``grace`` seconds.
        """
        now = time.monotonic()
        if now - self.looked < every:
            return
        self.looked, alive = now, {process.pid: title(process) for process in marked(self.run_id)}
        self.seen |= {pid: name for pid, name in alive.items() if name.startswith(VITAL)}
        self.gone = {pid: self.gone.get(pid, now) for pid in self.seen if not alive.get(pid)}
        for pid, since in self.gone.items():
            if now - since > self.grace:
                raise TrainingFailed(
                    f"{self.seen[pid]} (process {pid}) died {now - since:.0f} s ago, and verl still waits for it. "
                    "Look for the last lines of that process in the log; resume from the last checkpoint."
                )


def title(process: psutil.Process) -> str:
    """A living process's title; "" when it has ended."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return "" if ended else " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return ""


def launch(command: list[str], grace: float = GRACE) -> int:
    """Run any training command under the watchdog and return its exit status; nothing that it started is left behind.

    Its output goes where ours goes.
    """
    run_id = uuid.uuid4().hex
    child = subprocess.Popen(command, env=os.environ | {MARK: run_id}, start_new_session=True)
    vital = Vital(run_id, grace)
    try:
        while child.poll() is None:
            vital.check()
            time.sleep(0.2)
        return child.returncode
    except TrainingFailed as error:
        print(f"entropo launch: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        end_all(run_id, child)


def train(
    folder: Path,
    overrides: list[str],
    on_step: Callable[[dict], None],
    stall_seconds: float = 300,
    run_id: str | None = None,
) -> float:
    """Run verl's stock entry point and call ``on_step`` with each logged step; returns its wall time in seconds.

    Writes ``train.log`` and ``metrics.jsonl`` into ``folder``. A training that logs nothing for ``stall_seconds`` is
    ended: verl waits for ever when a rollout server dies. So is one whose worker or server died a minute ago.

    Raises:
        TrainingFailed: non-zero exit, or no progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started, run_id, metrics = time.monotonic(), run_id or uuid.uuid4().hex, folder / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    environment = os.environ | {MARK: run_id, "VERL_FILE_LOGGER_PATH": str(metrics), "ENTROPO_CPU": "1"}
    command = [sys.executable, "-m", "verl.trainer.main_ppo", f"hydra.run.dir={folder / 'hydra'}", *overrides]
    with open(folder / "train.log", "wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
        try:
            _follow(child, metrics, on_step, stall_seconds, folder / "train.log", Vital(run_id))
        finally:
            end_all(run_id, child)
    return time.monotonic() - started


def _follow(
    child: subprocess.Popen,
    metrics: Path,
    on_step: Callable[[dict], None],
    stall_seconds: float,
    log: Path,
    vital: Vital,
) -> None:
    position, moved = 0, time.monotonic()
    while True:
        status = child.poll()
        lines, position = _new_lines(metrics, position)
        for line in lines:
            on_step(line)
            moved = time.monotonic()
        if status is not None:
            break
        if time.monotonic() - moved > stall_seconds:
            raise TrainingFailed(f"no step in {stall_seconds:.0f} s, training ended. Its log: {log}")
        vital.check()
        time.sleep(0.5)
    if status:
        raise TrainingFailed(f"verl ended with exit status {status}.\n{last_words(log)}\nIts whole log: {log}")


def _new_lines(metrics: Path, position: int) -> tuple[list[dict], int]:
    """The complete lines of verl's file logger after ``position``; the last one may still be half-written."""
    if not metrics.exists():
        return [], position
    with open(metrics, "rb") as file:
        file.seek(position)
        whole = file.read().rpartition(b"\n")
    return [json.loads(line) for line in whole[0].splitlines() if line.strip()], position + len(whole[0] + whole[1])


def read_steps(metrics: Path) -> list[dict]:
    """Every complete line of verl's file logger so far."""
    return _new_lines(metrics, 0)[0]


def last_words(log: Path) -> str:
    """The lines of a log that name an error, the last of them first to be believed."""
    lines = log.read_text(errors="replace").splitlines()
    telling = [line[:300] for line in lines if "Error" in line and "not available" not in line]
    return "\n".join(telling[-3:] or [line[:300] for line in lines[-3:]])


def end_all(run_id: str, child: subprocess.Popen, patience: float = 20) -> None:
    """End the driver and everything that it started, Ray's daemons and rollout servers included.

    They are found by a mark in their environment, because Ray's processes leave the driver's process group.
    """
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    left = marked(run_id)
    for kill in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            _quietly(kill, process)
        _, left = psutil.wait_procs(left, timeout=5)


def marked(run_id: str) -> list[psutil.Process]:
    """Living processes, other than this one, that carry the run's mark, and all that descend from them.

    A process that sets its own title may lose its environment's copy in /proc, and the mark with it.
    """
    parents: dict[int, tuple[psutil.Process, int]] = {}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            parents[process.pid] = (process, process.ppid())
            if process.environ().get(MARK) == run_id:
                found[process.pid] = process
        except psutil.Error:
            continue
    while more := {pid: each for pid, (each, parent) in parents.items() if parent in found and pid not in found}:
        found |= more
    found.pop(os.getpid(), None)
    return list(found.values())


def _quietly(action: Callable[[psutil.Process], None], process: psutil.Process) -> None:
    try:
        action(process)
    except psutil.Error:
        pass
