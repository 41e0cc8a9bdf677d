"""What a run writes beside its log: the names that the trainer writes and the report looks for."""

from __future__ import annotations

from pathlib import Path

# The most expensive tokens of each step, and the run's own description: what is active, and what it moves.
TOKENS = "tokens.jsonl"
RUN = "run.json"


def stem(log: Path) -> str:
    """A log's name without what it ends in: ``try-2`` for ``try-2.jsonl`` and ``try-2.jsonl.gz``."""
    return Path(log.name.removesuffix(".gz")).stem


def beside(log: Path, name: str) -> Path:
    """A side file of one log: ``try-2.run.json`` for ``try-2.jsonl``; in a TensorBoard folder ``run.json`` itself.

    Args:
        log: a log file, a TensorBoard event file, or the folder, which exists, of such files.
        name: TOKENS or RUN.
    """
    if log.is_dir():
        return log / name
    return log.with_name(name if "tfevents" in log.name else f"{stem(log)}.{name}")
