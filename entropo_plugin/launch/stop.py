"""The signals that end a program, taken note of instead of acted upon, so that no clean-up is cut short."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

# What terminals and batch systems send; the others of these would end us without any clean-up.
ALWAYS = (signal.SIGINT, signal.SIGTERM)
UNLESS_IGNORED = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
# A terminal and a wrapper may both pass on one Ctrl-C.
ECHO = 0.3


class Stop:
    """While the block runs, a signal is noted and nothing is interrupted; the loop in the block looks at ``number``.

    ``nohup`` ignores SIGHUP, which stays so. Outside the main thread no signal can be taken.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at = 0.0
        self._again = False
        self._before: dict[int, Any] = {}
        self._mask: set[int] = set()

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            others = [number for name in UNLESS_IGNORED if (number := getattr(signal, name, None)) is not None]
            taken = [*ALWAYS, *(number for number in others if signal.getsignal(number) is not signal.SIG_IGN)]
            self._before = {number: signal.signal(number, self._note) for number in taken}
            # whoever started us may have blocked them
            self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, taken)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._mask)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number:
            self._again |= now - self._at > ECHO
        else:
            self.number, self._at = number, now

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name

    def again(self) -> bool:
        """Whether the user has asked a second time."""
        return self._again

    def act(self) -> None:
        """What the signal would have done without us, after the clean-up: nothing if there was none.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            SystemExit: it was another; the status is 128 + its number.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number:
            raise SystemExit(128 + self.number)
