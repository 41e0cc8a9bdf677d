"""Reads side files ``tokens.jsonl``: the tokens that cost most entropy, each in its response."""

from __future__ import annotations

import heapq
import json
import math
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from entropo_plugin.report.files import ReportError
from entropo_plugin.report.json_logs import Count, records
from entropo_plugin.report.log import LARGEST_VALUE, step_of

MOST = 40
COST = attrgetter("cost")


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
        count, first = Count(), resumed
        try:
            for token in records(path, _parsed, count):
                first = min(first, token.step)
                if token.step <= until and token.step < resumed:
                    tokens.append(token)
                if len(tokens) > 50 * most:  # a file has many more than are wanted
                    tokens = heapq.nlargest(most, tokens, key=COST)
        except FileNotFoundError:
            continue
        except (ReportError, OSError) as error:
            notes.insert(0, f"Not read: {error}")
        notes[:0] = count.note(path, "could not be read")
        resumed = first
    return heapq.nlargest(most, tokens, key=COST), notes


def _parsed(line: bytes) -> CostlyToken | None:
    try:
        record = json.loads(line)
        cost = float(record["cost"] if "cost" in record else -record["change"])
        return _token(record, cost) if abs(cost) < LARGEST_VALUE else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _token(record: dict[str, Any], cost: float) -> CostlyToken | None:
    step, position, row = (step_of(record.get(name, 0)) for name in ("step", "position", "row"))
    if step is None or position is None or row is None:
        return None
    uid, before, after = (str(record.get(name, "")) for name in ("uid", "context_before", "context_after"))
    return CostlyToken(step, uid, position, str(record["token"]), before, after, cost, row)
