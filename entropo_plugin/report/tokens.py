"""Reads side files ``tokens.jsonl``: the tokens that cost most entropy, each in its response."""

from __future__ import annotations

import heapq
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 8


@dataclass(frozen=True)
class CostlyToken:
    """One token.

    Attributes:
        step, uid, position: where it was sampled: global step, prompt, place in the response from 0.
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


def read_tokens(attempts: list[tuple[Path, float]], most: int = MOST) -> tuple[list[CostlyToken], list[str]]:
    """The costliest tokens of a run, costliest first, and notes; none where there is no side file.

    Args:
        attempts: side files of the run's attempts, oldest first, and the last step of each that still counts. Where two
            hold the same steps, the later one's stand.
        most: how many tokens are wanted.
    """
    records: list[CostlyToken] = []
    notes: list[str] = []
    resumed = math.inf
    for path, until in reversed(attempts):
        found, said = _read(path)
        records += [record for record in found if record.step < resumed and record.step <= until]
        notes = said + notes
        resumed = min([resumed, *(record.step for record in found)])
    return heapq.nlargest(most, records, key=lambda record: record.cost), notes


def _read(path: Path) -> tuple[list[CostlyToken], list[str]]:
    if not path.is_file():
        return [], []
    with path.open("rb") as lines:
        found = [_parsed(line) for line in lines if line.strip()]
    records = [record for record in found if record is not None]
    bad = len(found) - len(records)
    return records, [f"{path.name}: {bad} of {len(found)} lines could not be read and were passed over."] * (bad > 0)


def _parsed(line: bytes) -> CostlyToken | None:
    try:
        record = json.loads(line)
        cost = float(record["cost"] if "cost" in record else -record["change"])
        return _record(record, cost) if math.isfinite(cost) else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _record(record: dict[str, Any], cost: float) -> CostlyToken:
    return CostlyToken(
        step=int(record.get("step", 0)),
        uid=str(record.get("uid", "")),
        position=int(record.get("position", 0)),
        token=str(record["token"]),
        before=str(record.get("context_before", "")),
        after=str(record.get("context_after", "")),
        cost=cost,
    )
