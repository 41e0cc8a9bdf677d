"""``tokens.jsonl``: each step's most expensive tokens with their text, in a file of bounded size beside verl's log."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from entropo_plugin.atomic import append_whole, open_regular, replacing
from entropo_plugin.config import ConfigError, Monitor
from entropo_plugin.fields import shown
from entropo_plugin.hosts.verl.metrics.token_place import obstacle, unknown_home
from entropo_plugin.monitor import StepTokens, token_records
from entropo_plugin.side_file import TOKENS, beside

logger = logging.getLogger("entropo_plugin")

# Tokens of context on each side: about the 160 characters that the report shows.
AROUND = 64
# Every line begins with its step, so that lines can be sorted out without being parsed whole.
STEP = re.compile(rb'\{"step": (\d+), ')
BEGIN = b'{"step": '
# What tells a file of ours from another whose lines begin so.
KEYS = (b'"token": ', b'"cost": ')
# A line of ours has some kilobytes, whatever its tokens are.
LONGEST = 1 << 20
FOLDER = "entropo.monitor.folder"


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
    trainer, loggers = config.trainer, _loggers(config)
    if folder is not None:
        return Path(os.path.expanduser(folder), TOKENS)
    if "file" in loggers:
        return beside(_file_log(trainer), TOKENS)
    if "tensorboard" in loggers:
        own = f"tensorboard_log/{trainer.project_name}/{trainer.experiment_name}"
        return Path(os.environ.get("TENSORBOARD_DIR", own), TOKENS)
    return Path(str(trainer.default_local_dir), TOKENS)


def _loggers(config: Any) -> list[str]:
    logger = config.trainer.logger
    return [logger] if isinstance(logger, str) else list(logger or [])


def _file_log(trainer: Any) -> Path:
    """The log of verl's file logger, which writes a number or null in a name as text (tracking.py, FileLogger)."""
    root = os.path.expanduser(os.environ.get("VERL_FILE_LOGGER_ROOT", "."))
    own = Path(root, str(trainer.project_name), f"{trainer.experiment_name}.jsonl")
    return Path(os.environ.get("VERL_FILE_LOGGER_PATH") or own)


def check_token_file(config: Any, settings: Monitor) -> None:
    """Refuse at start-up a place in which ``tokens.jsonl`` cannot be written, as far as it can be seen from here.

    Raises:
        ConfigError: names the key, its value and what to change.
    """
    folder, reason = settings.folder, None
    if folder is not None:
        reason = unknown_home(folder) or obstacle(os.path.expanduser(folder))
    if reason is None and settings.tokens:
        reason = _unusable(config, folder)
    if reason:
        raise ConfigError(f"{FOLDER}={shown(folder)}: {reason}. Set {FOLDER} to a folder that can be written to.")


def _unusable(config: Any, folder: str | None) -> str | None:
    """What is wrong with the file itself, which may be there already."""
    loggers = _loggers(config)
    if folder is None and config.trainer.default_local_dir is None and not {"file", "tensorboard"} & {*loggers}:
        return "no logger writes a file beside which it could be put, and trainer.default_local_dir is null"
    path = place(config, folder)
    if (reason := obstacle(str(path.parent))) is not None:
        return reason
    if "file" in loggers and os.path.abspath(path) == os.path.abspath(_file_log(config.trainer)):
        return f"{path} is verl's own log"
    try:
        return None if is_ours(path) else f"{path} was not written by entropo_plugin, and is left alone"
    except OSError as error:
        return f"{path} cannot be used ({error.strerror})"


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
        except (OSError, ValueError) as error:
            self._broken = True
            logger.warning("entropo_plugin: %s cannot be written (%s); no more tokens are recorded.", self.path, error)

    def _begin(self, step: int) -> None:
        """What an earlier attempt wrote of this step and later ones is thrown away, and a line that was cut off."""
        if self._begun:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not is_ours(self.path):
            raise ValueError("it was not written by entropo_plugin and is left alone; move it, or set " + FOLDER)
        if self.path.exists():
            self._keep(lambda found: found < step)
        self._begun = True

    def _append(self, lines: list[bytes]) -> None:
        new = b"".join(lines)
        if self.path.exists() and self.path.stat().st_size + len(new) > self.most:
            oldest = self._oldest_to_keep(self.most // 2 - len(new))
            self._keep(lambda found: found >= oldest)
        append_whole(self.path, new)

    def _oldest_to_keep(self, room: int) -> int:
        """The first step from which on the file's lines take ``room`` bytes at most."""
        sizes: dict[int, int] = {}
        for line in whole_lines(self.path):
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
        # where it is a link, the file behind it is replaced
        with replacing(Path(os.path.realpath(self.path))) as new:
            new.writelines(
                line for line in whole_lines(self.path) if (step := step_of(line)) is not None and wanted(step)
            )


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a regular file, a longer one than any of ours in pieces.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        while line := file.readline(LONGEST):
            yield line


def is_ours(path: Path) -> bool:
    """Whether a file is one that we have written, to its last line but one that a crash has cut; or is not there.

    Raises:
        OSError: as :func:`whole_lines`.
    """
    first = True
    try:
        for line in whole_lines(path):
            if not line.endswith(b"\n") and len(line) < LONGEST:
                return not first or line.startswith(BEGIN[: len(line)])
            if step_of(line) is None or (first and not all(key in line for key in KEYS)):
                return False
            first = False
    except FileNotFoundError:
        pass
    return True


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
