"""Which rows of a batch are one response: a host may split an agent's session into several rows.

verl keys a row ``{uid}_{session}_{output}`` (trainer/ppo/v1/agent_loop_tq.py). A session is one response, and its last
output speaks for it: verl takes the session's reward from there and copies it to the other rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sessions:
    """Rows and the responses that they belong to.

    Attributes:
        last: row of each response's last output, responses in their first order.
        response: ``(batch,)`` the response of each row, as a position in ``last``.
        order: ``(batch,)`` all rows, those of one response side by side and in the order in which they were written.
    """

    last: list[int]
    response: list[int]
    order: list[int]

    @classmethod
    def of_rows(cls, rows: int) -> Sessions:
        """Each row is a response of its own."""
        every = list(range(rows))
        return cls(every, every, every)

    @classmethod
    def of_keys(cls, keys: Sequence[str]) -> Sessions:
        """Sessions named by row keys ``{uid}_{session}_{output}``; with keys of another form each row is a response."""
        if not all(re.fullmatch(r".+_[^_]+_\d+", key) for key in keys):
            return cls.of_rows(len(keys))
        last, response = last_outputs(keys, len(keys))
        number = [int(key.rsplit("_", 1)[1]) for key in keys]
        return cls(last, response, sorted(range(len(keys)), key=lambda row: (response[row], number[row])))

    @property
    def last_rows(self) -> Tensor:
        """``last`` as an index."""
        return torch.tensor(self.last, dtype=torch.long)

    def to_rows(self, values: Tensor) -> Tensor:
        """``(batch,)``: for every row the value that its response's last output has among ``(batch,)`` values."""
        return values[self.last_rows][torch.tensor(self.response, dtype=torch.long)]


def last_outputs(keys: Sequence[str] | None, rows: int) -> tuple[list[int], list[int]]:
    """Rows that are their session's last output, and for every row the position of its session's in that list.

    Args:
        keys: row keys ``{uid}_{session}_{output}``; None: each row is a session.
        rows: number of rows.
    """
    if keys is None:
        return list(range(rows)), list(range(rows))
    parts = [key.rsplit("_", 1) for key in keys]
    last: dict[str, int] = {}
    for row, (session, number) in enumerate(parts):
        if session not in last or int(parts[last[session]][1]) < int(number):
            last[session] = row
    position = {session: i for i, session in enumerate(last)}
    return list(last.values()), [position[session] for session, _ in parts]
