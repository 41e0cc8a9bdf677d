"""Where the most expensive tokens of a run lie: the name that the trainer writes and the report looks for."""

from __future__ import annotations

from pathlib import Path

NAME = "tokens.jsonl"


def beside(log: Path) -> Path:
    """The side file of one log: ``try-2.tokens.jsonl`` for ``try-2.jsonl``."""
    return log.with_name(f"{log.stem}.{NAME}")
