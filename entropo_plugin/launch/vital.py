"""Notices that a worker or a rollout server has died while the driver of its training waits for it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import psutil

from entropo_plugin.launch.processes import Family, exit_handle, exit_status, title

RUNNER = "ray::TaskRunner"
# Titles of the processes that a run cannot do without, as Ray and vLLM set them.
VITAL = (
    RUNNER,
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


@dataclass
class Seen:
    """One vital process.

    Attributes:
        name: its title when last seen.
        handle: tells how it ended, where the system can.
        waiting: whoever waits for it: verl's task runners, else its parent.
        gone: when it was first missed, by the monotonic clock.
    """

    name: str
    handle: int | None
    waiting: list[psutil.Process] = field(default_factory=list)
    gone: float | None = None


class Vital:
    """The vital processes of a family.

    A process that has ended is a death only if it did not end normally and whoever waits for it lives: an evaluation,
    a merge or a second training may follow the first one.

    Args:
        family: all processes of the run.
        grace: seconds that the driver has to end by itself, with its own error.
    """

    def __init__(self, family: Family, grace: float = GRACE):
        self.family, self.grace = family, grace
        self.seen: dict[psutil.Process, Seen] = {}
        self.looked = float("-inf")

    def check(self, every: float = 3.0) -> None:
        """Look at the run's processes, at most once in ``every`` seconds.

        Raises:
            TrainingFailed: a vital process died ``grace`` seconds ago, and the training still waits for it.
        """
        now = time.monotonic()
        if now - self.looked < every:
            return
        self.looked, titles = now, {process: title(process) for process in self.family.look()}
        self._meet({process: name for process, name in titles.items() if name.startswith(VITAL)})
        for process, seen in list(self.seen.items()):
            if not titles.get(process):
                self._judge(process, seen, now)

    def _meet(self, alive: dict[psutil.Process, str]) -> None:
        runners = [process for process, name in alive.items() if name.startswith(RUNNER)]
        for process, name in alive.items():
            if process not in self.seen:
                self.seen[process] = Seen(name, exit_handle(process.pid))
            seen = self.seen[process]
            seen.name, seen.waiting = name, [] if process in runners else runners
            seen.waiting = seen.waiting or _parent(process) or seen.waiting

    def _judge(self, process: psutil.Process, seen: Seen, now: float) -> None:
        seen.gone = now if seen.gone is None else seen.gone
        if not _died(exit_status(process, seen.handle), seen) or not any(map(title, seen.waiting)):
            self._forget(process)
        elif now - seen.gone > self.grace:
            raise TrainingFailed(
                f"{seen.name} (process {process.pid}) died {now - seen.gone:.0f} s ago, and verl still waits for it. "
                "Look for the last lines of that process in the log; resume from the last checkpoint."
            )

    def _forget(self, process: psutil.Process) -> None:
        handle = self.seen.pop(process).handle
        if handle is not None:
            os.close(handle)


def _died(status: int | None, seen: Seen) -> bool:
    """Whether a process that ended so, as ``os.wait`` says it, is missed.

    Where the status is not known, it is missed by a task runner only: a parent is told of its child's end.
    Ray ends an actor that is killed on purpose, or whose owner has ended, with exit code 1.
    """
    by_runner = any(title(process).startswith(RUNNER) for process in seen.waiting)
    if status is None:
        return by_runner
    on_purpose = 1 << 8 if seen.name.startswith("ray::") and not by_runner else 0
    return status not in (0, on_purpose)


def _parent(process: psutil.Process) -> list[psutil.Process]:
    try:
        parent = process.parent()
    except psutil.Error:
        parent = None
    return [parent] if parent else []
