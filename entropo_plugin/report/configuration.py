"""How a run was started: settings, command, date and versions, from run.json, its log, Hydra's folder or verl's."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from entropo_plugin.report.files import ReportError, lines, opened
from entropo_plugin.report.log import Log
from entropo_plugin.report.search import home

LARGEST = 10**6
# verl prints its configuration, and Ray puts the worker's name before each line, in colour.
PREFIX = re.compile(r"^(\x1b\[\d+m)?\(\w+ pid=\d+[^)]*\)(\x1b\[0m)? ?")
PRINTED = 20_000
ENTRY = ("python", "-m", "verl.trainer.main_ppo")
LONGEST, LONGEST_COMMAND = 200, 4000
# Of two runs of one configuration these may differ.
INCIDENTAL = re.compile(r"seed|experiment_name|project_name|dir\b|path|folder|files|port\b|run_name", re.IGNORECASE)
# A report is shown around; whatever may be a key does not go into it.
SECRET = r"[\w.+-]*(?:api_?key|secret|passw|credential|(?:hub|hf|auth|access|wandb)_?token)[\w.-]*"


@dataclass(frozen=True)
class Setup:
    """How a run was started; empty where nothing says so.

    Attributes:
        config: every setting by its dotted name, as text.
        command: what was run.
        started: date and time.
        versions: of the packages, by name.
    """

    config: dict[str, str] = field(default_factory=dict)
    command: str = ""
    started: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def lasting(self) -> tuple[tuple[str, str], ...]:
        """What two runs of one configuration share, whatever their seeds."""
        return tuple(sorted(each for each in self.config.items() if not INCIDENTAL.search(each[0])))


def read_setup(logs: list[Log], said: dict[str, Any]) -> Setup:
    """What the run says in its ``run.json``; else what its logs say, Hydra's folder, or what verl printed."""
    beside, started = home(logs[-1].path), logs[0].started
    own = next((log.config for log in reversed(logs) if log.config), None)
    places = (beside / ".hydra", beside / "hydra" / ".hydra", beside.parent / ".hydra")
    folder = next((each for each in places if each.is_dir()), beside)
    config = said.get("config") or own or _parsed(folder / "config.yaml", dict) or _printed(beside)
    overrides = _parsed(folder / "overrides.yaml", list)
    command = said.get("command") or (shlex.join([*ENTRY, *map(str, overrides)]) if overrides else "")
    command = re.sub(rf"({SECRET}[ =])\S+", r"\1***", str(command)[:LONGEST_COMMAND], flags=re.IGNORECASE)
    first = datetime.fromtimestamp(started, timezone.utc).isoformat(" ", "minutes") if started else ""
    return Setup(_settings(config), command, str(said.get("date") or first)[:40], _settings(said.get("versions")))


def _parsed(path: Path, kind: Any) -> Any:
    """What a YAML file holds, if it is of that kind; nothing where there is no such file, or where it is damaged.

    Nor where it has aliases, of which a small file could make a large one; Hydra writes none.
    """
    try:
        import yaml  # comes with every host, and with nothing that the report needs

        with opened(path, LARGEST) as file:
            text = file.read().decode()
        aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader))
        found = None if aliases else yaml.safe_load(text)
    except Exception:  # whatever a parser raises: a run's settings are worth a table, and never the report
        found = None
    return found if isinstance(found, kind) else kind()


def _printed(folder: Path) -> dict[str, Any]:
    """The configuration that verl prints when it starts, from the first log beside that holds it."""
    for path in sorted(folder.glob("*.log"))[:4]:
        try:
            with opened(path) as file:
                text = "".join(_dictionary(lines(file)))
            return dict(ast.literal_eval(text))
        except (ReportError, OSError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return {}


def _dictionary(rows: Iterator[bytes]) -> Iterator[str]:
    """The lines from ``{'actor_rollout_ref'`` or the like until its brackets are closed."""
    depth = 0
    for number, row in enumerate(rows):
        line = PREFIX.sub("", row.decode(errors="replace"))
        if depth or line.startswith("{'"):
            yield line
            depth += line.count("{") - line.count("}")
            if depth <= 0:
                return
        if number > PRINTED:
            return


def _settings(value: Any) -> dict[str, str]:
    """Dotted names and values; nothing where they are nested beyond all sense."""
    try:
        return dict(_flat(value))
    except RecursionError:
        return {}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values as text."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(below, f"{name}.{key}" if name else str(key))
    elif name:
        hidden = re.fullmatch(SECRET, name, re.IGNORECASE) and value
        yield name, "***" if hidden else str(value)[:LONGEST]
