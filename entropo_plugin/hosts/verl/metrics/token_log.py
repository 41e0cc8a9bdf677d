"""``tokens.jsonl``: each step's most expensive tokens with their text, in a file of bounded size beside verl's log."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entropo_plugin.config import Monitor
from entropo_plugin.monitor import StepTokens, token_records
from entropo_plugin.side_file import NAME, beside

logger = logging.getLogger("entropo_plugin")

# Tokens of context on each side: about the 160 characters that the report shows.
AROUND = 64
# Every line begins with its step, so that lines can be sorted out without being parsed whole.
STEP = re.compile(rb'\{"step": (\d+), ')


def token_file(config: Any, settings: Monitor) -> TokenFile | None:
    """The side file of a run, or None where none is asked for.

    Args:
        config: verl's whole configuration.
        settings: the node ``entropo.monitor``.
    """
    return TokenFile(place(config, settings.folder), settings.tokens_megabytes * 10**6) if settings.tokens else None


def place(config: Any, folder: str | None) -> Path:
    """Where the report looks: ``folder`` if set, else beside the log of verl's file logger or of its TensorBoard one.

    Without either logger it is ``trainer.default_local_dir``.
    """
    trainer, environment = config.trainer, os.environ
    loggers = [trainer.logger] if isinstance(trainer.logger, str) else list(trainer.logger)
    own = Path(trainer.project_name, trainer.experiment_name)
    if folder is not None:
        return Path(folder).expanduser() / NAME
    if "file" in loggers:
        root = Path(environment.get("VERL_FILE_LOGGER_ROOT", ".")).expanduser()
        return beside(Path(environment.get("VERL_FILE_LOGGER_PATH") or root / f"{own}.jsonl"))
    if "tensorboard" in loggers:
        return Path(environment.get("TENSORBOARD_DIR", Path("tensorboard_log") / own)) / NAME
    return Path(trainer.default_local_dir) / NAME


def token_lines(tokens: StepTokens, n: int, step: int, tokenizer: Any) -> list[bytes]:
    """The ``n`` tokens that cost most entropy, costliest first, one JSON object a line."""
    return [_line(record, tokens, step, tokenizer) for record in token_records(tokens, n)]


def _line(record: dict[str, Any], tokens: StepTokens, step: int, tokenizer: Any) -> bytes:
    row, position = record["row"], record["position"]
    assert tokens.responses is not None
    ids = tokens.responses[row, : int(tokens.response_length[row])].tolist()
    before, token, after = in_context(ids, position, tokenizer)
    found = {"step": step, "uid": record["uid"], "row": row, "position": position, "token": token}
    found |= {"token_id": record["token"], "context_before": before, "context_after": after, "cost": -record["change"]}
    found |= {name: record[name] for name in ("log_prob", "entropy", "advantage")}
    return json.dumps(found).encode() + b"\n"


def in_context(ids: list[int], position: int, tokenizer: Any) -> tuple[str, str, str]:
    """A token's text and the text around it, decoded together: alone, a token may lose its leading space."""
    first = max(0, position - AROUND)
    ends = (position, position + 1, position + 1 + AROUND)
    before, middle, whole = (_text(ids[first:end], tokenizer) for end in ends)
    token = middle[len(before) :] if middle.startswith(before) else _text(ids[position : position + 1], tokenizer)
    after = whole[len(middle) :] if whole.startswith(middle) else _text(ids[ends[1] : ends[2]], tokenizer)
    return before, token, after


def _text(ids: list[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class TokenFile:
    """Appends each step's lines; never larger than ``most`` bytes, and never the end of a training.

    Args:
        path: the file.
        most: largest size in bytes. Beyond it the oldest steps are dropped, down to half of it.
    """

    def __init__(self, path: Path, most: int):
        self.path, self.most = path, most
        self._begun = self._broken = False

    def write(self, step: int, lines: list[bytes]) -> None:
        """Add one step's lines in one write; a fault of the file system is said once and ends the recording."""
        if self._broken:
            return
        try:
            self._begin(step)
            self._append(_fitting(lines, self.most // 2))
        except OSError as error:
            self._broken = True
            logger.warning("entropo_plugin: %s cannot be written (%s); no more tokens are recorded.", self.path, error)

    def _begin(self, step: int) -> None:
        """What an earlier attempt wrote of this step and later ones is thrown away, and a line that was cut off."""
        if self._begun:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._keep(lambda found: found < step)
        self._begun = True

    def _append(self, lines: list[bytes]) -> None:
        new = b"".join(lines)
        if self.path.exists() and self.path.stat().st_size + len(new) > self.most:
            oldest = self._oldest_to_keep(self.most // 2 - len(new))
            self._keep(lambda found: found >= oldest)
        with self.path.open("ab", buffering=0) as file:
            file.write(new)

    def _oldest_to_keep(self, room: int) -> int:
        """The first step from which on the file's lines take ``room`` bytes at most."""
        sizes: dict[int, int] = {}
        with self.path.open("rb") as lines:
            for line in lines:
                if (step := step_of(line)) is not None:
                    sizes[step] = sizes.get(step, 0) + len(line)
        oldest = max(sizes, default=0) + 1
        for step in sorted(sizes, reverse=True):
            room -= sizes[step]
            if room < 0:
                break
            oldest = step
        return oldest

    def _keep(self, wanted: Callable[[int], bool]) -> None:
        """Drop the lines of other steps; a crash at any instant leaves either the old file or the new one."""
        partial = self.path.with_name(f"{self.path.name}.partial")
        with self.path.open("rb") as old, partial.open("wb") as new:
            new.writelines(line for line in old if (step := step_of(line)) is not None and wanted(step))
            new.flush()
            os.fsync(new.fileno())
        shutil.copymode(self.path, partial)
        os.replace(partial, self.path)


def step_of(line: bytes) -> int | None:
    """The step of one whole line of ours; None for a line that was cut off, or is not ours."""
    found = STEP.match(line) if line.endswith(b"}\n") else None
    return int(found[1]) if found else None


def _fitting(lines: list[bytes], room: int) -> list[bytes]:
    """The first lines that fit."""
    kept = []
    for line in lines:
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
    return kept
