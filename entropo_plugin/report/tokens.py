"""Reads side files ``tokens.jsonl``: the tokens that cost most entropy, each in its response."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from entropo_plugin.report.files import ReportError, lines, opened
from entropo_plugin.report.log import LARGEST_VALUE, step_of

MOST = 40


@dataclass(frozen=True)
class CostlyToken:
    """One token.

    Attributes:
        step, uid, row, position: where it was sampled: global step, prompt, response, place in the response from 0.
        token: its text, or its id where the text is not known.
        before, after: the text around it.
        cost: predicted loss of entropy, nats per unit of learning rate.
    """

    step: int
    uid: str
    position: int
    token: str
    before: str
    after: str
    cost: float
    row: int = 0


def read_tokens(attempts: list[tuple[Path, float]], most: int = MOST) -> tuple[list[CostlyToken], list[str]]:
    """The costliest tokens of a run, costliest first, and notes; none where there is no side file.

    Args:
        attempts: side files of the run's attempts, oldest first, and the last step of each that still counts. Where two
            hold the same steps, the later one's stand.
        most: how many tokens are wanted.
    """
    tokens: list[CostlyToken] = []
    notes: list[str] = []
    resumed = math.inf
    for path, until in reversed(attempts):
        side = _Side(path)
        tokens += side.costliest(most, lambda step, until=until, resumed=resumed: step <= until and step < resumed)  # type: ignore[misc]
        notes = side.notes + notes
        resumed = min(resumed, side.first)
    return heapq.nlargest(most, tokens, key=_cost), notes


class _Side:
    """One side file, read once, line by line."""

    def __init__(self, path: Path):
        self.path = path
        self.first = math.inf
        self.good = self.bad = 0
        self.notes: list[str] = []

    def costliest(self, most: int, wanted: Callable[[int], bool]) -> list[CostlyToken]:
        """The costliest tokens of the steps that are wanted."""
        try:
            with opened(self.path) as file:
                tokens = heapq.nlargest(most, (token for token in self._all(file) if wanted(token.step)), key=_cost)
        except FileNotFoundError:
            return []
        except (ReportError, OSError) as error:
            self.notes.append(f"Not read: {error}")
            return []
        if self.bad:
            total = self.good + self.bad
            self.notes.append(f"{self.path.name}: {self.bad} of {total} lines could not be read and were passed over.")
        return tokens

    def _all(self, file: BinaryIO) -> Iterator[CostlyToken]:
        for line in lines(file):
            token = _parsed(line)
            if token is not None:
                self.good += 1
                self.first = min(self.first, token.step)
                yield token
            else:
                self.bad += bool(line.strip())


def _cost(token: CostlyToken) -> float:
    return token.cost


def _parsed(line: bytes) -> CostlyToken | None:
    try:
        record = json.loads(line)
        cost = float(record["cost"] if "cost" in record else -record["change"])
        return _record(record, cost) if abs(cost) < LARGEST_VALUE else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _record(record: dict[str, Any], cost: float) -> CostlyToken:
    return CostlyToken(
        step=_whole(record.get("step", 0)),
        uid=str(record.get("uid", "")),
        position=_whole(record.get("position", 0)),
        token=str(record["token"]),
        before=str(record.get("context_before", "")),
        after=str(record.get("context_after", "")),
        cost=cost,
        row=_whole(record.get("row", 0)),
    )


def _whole(value: Any) -> int:
    whole = step_of(value)
    if whole is None:
        raise ValueError(f"{value!r} is no whole number")
    return whole
