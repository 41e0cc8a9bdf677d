"""One line of ``entropo doctor``, and how an error becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

FIX = "fix what the message names, then run again"
Check: TypeAlias = "Callable[[], Iterator[Finding]]"


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        remedy: what to do against a problem; empty for good news and notes.
        note: worth knowing, but nothing has to be done.
    """

    subject: str
    words: str
    remedy: str = ""
    note: bool = False

    def __str__(self) -> str:
        if not self.remedy:
            return f"{'note' if self.note else 'ok':<8} {self.subject}: {self.words}"
        return f"PROBLEM  {self.subject}: {self.words}\n         what to do: {self.remedy}"


def guarded(name: str, check: Check) -> Iterator[Finding]:
    """What a check finds; an exception in it is a finding too."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(name, whole(error), FIX)


def whole(error: BaseException) -> str:
    """An error with all of its causes as one line, each cause once: the last one is often the only one that helps."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        words = " ".join(str(cause).split())
        if not any(words in earlier for earlier in said):
            said.append(f"{type(cause).__name__}: {words or 'no message'}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " <- ".join(said)
