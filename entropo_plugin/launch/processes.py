"""Everything that a command has started: found by its mark, by descent and by memory, and ended together."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MARK = "ENTROPO_RUN_ID"
PATIENCE = 15.0
# include/uapi/linux/pidfd.h: struct pidfd_info begins with its mask and ends with the exit status
PIDFD_INFO, PIDFD_INFO_EXIT = struct.Struct("=Q52xi"), 1 << 3
PIDFD_GET_INFO = 3 << 30 | PIDFD_INFO.size << 16 | 0xFF << 8 | 11
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


class Family:
    """A child and all that it started, remembered from the first time that they are seen.

    Ray's processes leave the driver's process group and its tree, and a process may clear its environment or, by
    setting its title, lose the copy of it in /proc. None of the three ways of finding them is enough alone.

    Args:
        run_id: the mark in the environment of the child.
        child: started in a session of its own.
        others: children of this process that are none of these, as :func:`adopting` says; None where none is adopted.
    """

    def __init__(self, run_id: str, child: subprocess.Popen, others: set[psutil.Process] | None = None):
        self.run_id, self.child, self.others = run_id, child, others
        self._known: set[psutil.Process] = set()
        # a child that was waited for has given its number back
        if child.returncode is None:
            with suppress(psutil.Error):
                self._known.add(psutil.Process(child.pid))

    def look(self) -> list[psutil.Process]:
        """Those that live."""
        parents = _parents()
        found = {process for process, parent in parents.items() if self._ours(process, parent)} | self._known
        self._known = _with_descendants(found, parents)
        self._reap(parents)
        return [process for process in self._known if not _ended(process)]

    def _ours(self, process: psutil.Process, parent: int) -> bool:
        return _mark(process) == self.run_id or (parent == os.getpid() and self._adopted(process))

    def _adopted(self, process: psutil.Process) -> bool:
        """Whether a child of this process is an orphan of the other one, which has a session of its own."""
        if self.others is None or process in self.others:
            return False
        return _session(process.pid) not in (None, os.getsid(0))

    def _reap(self, parents: dict[psutil.Process, int]) -> None:
        """Orphans that have ended would stay as zombies; the child itself is for ``Popen``."""
        for process in self._known:
            if parents.get(process) == os.getpid() and process.pid != self.child.pid and _ended(process):
                with suppress(OSError):
                    os.waitpid(process.pid, os.WNOHANG)

    def end(self, patience: float = PATIENCE, hurry: Callable[[], bool] = lambda: False) -> list[psutil.Process]:
        """End them all: Ctrl-C to the child, which may save something, then SIGTERM, then SIGKILL until none is left.

        Returns whom even SIGKILL has not ended in half a minute: a driver of the system holds them.

        Args:
            patience: seconds that the child has after its Ctrl-C.
            hurry: asked again and again; once true, only SIGKILL follows.
        """
        try:
            self._end_all(patience, hurry)
        finally:
            # whatever has gone wrong, the child is ours to end
            if self.child.poll() is None:
                self.child.kill()
                with suppress(subprocess.TimeoutExpired):
                    self.child.wait(5)
        return self.look()

    def _end_all(self, patience: float, hurry: Callable[[], bool]) -> None:
        self.look()
        if self.child.poll() is None and not hurry():
            self.child.send_signal(signal.SIGINT)
            _wait(lambda: self.child.poll() is not None, patience, hurry)
        if not hurry():
            _send(self.look(), signal.SIGTERM)
            _wait(lambda: not self.look(), 5, hurry)
        # whoever is started meanwhile is seen in the next round
        _wait(lambda: not _send(self.look(), signal.SIGKILL), 30)


def _send(processes: list[psutil.Process], number: int) -> list[psutil.Process]:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
    return processes


def _wait(done: Callable[[], bool], seconds: float, hurry: Callable[[], bool] = lambda: False) -> None:
    end = time.monotonic() + seconds
    while not done() and not hurry() and time.monotonic() < end:
        time.sleep(0.1)


@contextmanager
def adopting() -> Iterator[set[psutil.Process] | None]:
    """Orphans of this process's descendants become its own children instead of init's, where the system can (Linux).

    Yields the children that there are before; None where it cannot.
    """
    before = _subreaper()
    others = None if before is None else {process for process, parent in _parents().items() if parent == os.getpid()}
    if before == 0:
        _subreaper(1)
    try:
        yield others
    finally:
        if before == 0:
            _subreaper(0)


def _subreaper(value: int | None = None) -> int | None:
    """Set or get the attribute; None where the system has none."""
    if sys.platform != "linux":
        return None
    prctl, found = ctypes.CDLL(None).prctl, ctypes.c_int(0)
    if value is None:
        return found.value if prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0 else None
    return value if prctl(PR_SET_CHILD_SUBREAPER, value, 0, 0, 0) == 0 else None


def marked(run_id: str) -> list[psutil.Process]:
    """Living processes, other than this one, that carry the run's mark, and all that descend from them."""
    parents = _parents()
    found = {process for process in parents if _mark(process) == run_id}
    return [process for process in _with_descendants(found, parents) if not _ended(process)]


def title(process: psutil.Process) -> str:
    """A living process's title; "" when it has ended."""
    try:
        return "" if _ended(process) else " ".join(process.cmdline()).strip() or process.name()
    except psutil.Error:
        return ""


def exit_handle(pid: int) -> int | None:
    """A descriptor through which :func:`exit_status` learns how a process ended that is not a child of this one."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def exit_status(process: psutil.Process, handle: int | None) -> int | None:
    """How a process ended, as ``os.wait`` says it; None where the system does not tell (Linux before 6.15)."""
    with suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        if process.status() == psutil.STATUS_ZOMBIE:
            return int(stat.split()[-1])
    if handle is None:
        return None
    info = bytearray(PIDFD_INFO.size)
    PIDFD_INFO.pack_into(info, 0, PIDFD_INFO_EXIT, 0)
    try:
        fcntl.ioctl(handle, PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask, status = PIDFD_INFO.unpack(info)
    return status if mask & PIDFD_INFO_EXIT else None


def _parents() -> dict[psutil.Process, int]:
    """Every process that can be seen, with its parent's id.

    Not from ``psutil.process_iter``, which may hand out a process that ended for the one that has its number now.
    """
    found = {}
    for pid in psutil.pids():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found[process] = process.ppid()
    return found


def _with_descendants(found: set[psutil.Process], parents: dict[psutil.Process, int]) -> set[psutil.Process]:
    """``found`` and all that descend from them, without this process and what is not a process any more."""
    found = {process for process in found if process in parents}
    pids = {process.pid for process in found}
    while more := {process for process, parent in parents.items() if parent in pids and process not in found}:
        found |= more
        pids |= {process.pid for process in more}
    return {process for process in found if process.pid != os.getpid()}


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _ended(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
