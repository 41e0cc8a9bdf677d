"""One verl training as a child process that can be watched, and that leaves nothing behind however it ends."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from entropo_plugin.fields import ConfigError
from entropo_plugin.launch.processes import MARK, PATIENCE, Family, adopting, marked, title
from entropo_plugin.launch.stop import Stop
from entropo_plugin.launch.vital import GRACE, TrainingFailed, Vital

__all__ = ["MARK", "TrainingFailed", "end_all", "last_words", "launch", "marked", "read_steps", "title", "train"]

# Of a log, the end in which its error stands.
ENOUGH = 8 << 20
LONGEST_GRACE = 7 * 24 * 3600.0


class NotStarted(OSError):
    """The command cannot be run; ``status`` is what a shell makes of it."""

    def __init__(self, command: str, error: OSError):
        super().__init__(f"{command} cannot be run: {error.strerror}.")
        self.status = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126


@contextmanager
def _started(command: list[str], run_id: str, **rest: Any) -> Iterator[tuple[subprocess.Popen, Family, Stop]]:
    """Start a command; when the block is left, for whatever reason, it and all that it started have been ended."""
    with Stop() as stop, adopting() as others:
        try:
            child = subprocess.Popen(command, start_new_session=True, **rest)
        except OSError as error:
            raise NotStarted(command[0], error) from error
        family = Family(run_id, child, others)
        try:
            yield child, family, stop
        finally:
            _say_left(family.end(hurry=stop.again))


def launch(command: list[str], grace: float = GRACE) -> int:
    """Run any training command under the watchdog and return its exit status; nothing that it started is left behind.

    Its output goes where ours goes. The status is that of a shell: 128 + N when signal N ended the command or us, 127
    for a command that is not there, 126 for one that cannot be run.

    Raises:
        ConfigError: ``grace`` is not a number of seconds.
    """
    if not 0 <= grace <= LONGEST_GRACE:
        raise ConfigError(f"--grace={grace:g}: set it to a number of seconds in [0, {LONGEST_GRACE:g}].")
    run_id = uuid.uuid4().hex
    try:
        with _started(command, run_id, env=os.environ | {MARK: run_id}) as (child, family, stop):
            return _status(child, Vital(family, grace), stop)
    except TrainingFailed as error:
        _say(str(error))
        return 1
    except NotStarted as error:
        _say(f"{error} Give the training's command after --.")
        return error.status


def _status(child: subprocess.Popen, vital: Vital, stop: Stop) -> int:
    """Wait for the end of the command, or for a signal to us."""
    while (status := child.poll()) is None:
        if stop.number:
            _say(f"{stop.name}: ending everything that the command has started.")
            return 128 + stop.number
        vital.check()
        time.sleep(0.2)
    return status if status >= 0 else 128 - status


def _say(sentence: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be what has gone
        print(f"entropo launch: {sentence}", file=sys.stderr, flush=True)


def _say_left(processes: list[psutil.Process]) -> None:
    for process in processes:
        _say(f"process {process.pid} ({title(process)[:60]}) does not end, not even by SIGKILL.")


def train(
    folder: Path,
    overrides: list[str],
    on_step: Callable[[dict], None],
    stall_seconds: float = 300,
    run_id: str | None = None,
    device: str = "cpu",
) -> float:
    """Run verl's stock entry point and call ``on_step`` with each logged step; returns its wall time in seconds.

    Writes ``train.log`` and ``metrics.jsonl`` into ``folder``. A training that logs nothing for ``stall_seconds`` is
    ended: verl waits without end when a rollout server dies. So is one whose worker or server died a minute ago. On
    another ``device`` than "cpu" verl chooses its platform itself.

    Raises:
        TrainingFailed: non-zero exit, or no progress.
        KeyboardInterrupt, SystemExit: a signal has asked this process to end; the training has been ended before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started, run_id, metrics = time.monotonic(), run_id or uuid.uuid4().hex, folder / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    own = {MARK: run_id, "VERL_FILE_LOGGER_PATH": str(metrics), "ENTROPO_CPU": str(int(device == "cpu"))}
    command = [sys.executable, "-m", "verl.trainer.main_ppo", f"hydra.run.dir={folder / 'hydra'}", *overrides]
    with (
        open(folder / "train.log", "wb") as log,
        _started(command, run_id, stdout=log, stderr=log, env=os.environ | own, cwd=folder) as (child, family, stop),
    ):
        _follow(child, metrics, on_step, stall_seconds, folder / "train.log", Vital(family), stop)
    stop.act()
    return time.monotonic() - started


def _follow(
    child: subprocess.Popen,
    metrics: Path,
    on_step: Callable[[dict], None],
    stall_seconds: float,
    log: Path,
    vital: Vital,
    stop: Stop,
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
        if stop.number:
            return
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
    """The lines of a log that name an error, the last line first: it is the likeliest cause."""
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENOUGH))
        lines = file.read(ENOUGH).decode(errors="replace").splitlines()
    telling = [line[:300] for line in lines if "Error" in line and "not available" not in line]
    return "\n".join(telling[-3:] or [line[:300] for line in lines[-3:]])


def end_all(run_id: str, child: subprocess.Popen, patience: float = PATIENCE) -> None:
    """End the driver and everything that it started, Ray's daemons and rollout servers included."""
    _say_left(Family(run_id, child).end(patience))
