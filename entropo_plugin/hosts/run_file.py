"""``run.json``: what is active and what its coefficients mean, beside a run's log, for the report."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from entropo_plugin.atomic import replacing
from entropo_plugin.methods import Method
from entropo_plugin.methods.active import coefficients, stems

logger = logging.getLogger("entropo_plugin")

FORMAT = 1
PACKAGES = ("entropo-plugin", "verl", "trl", "torch", "transformers", "vllm")
# A trainer that Ray started has Ray's command line; verl's own is in Hydra's folder.
RAY = "default_worker.py"


def description(methods: Sequence[Method], line: str) -> dict[str, Any]:
    """Plain JSON values: the start-up line, and label, bounds and key of every coefficient by its name in metrics."""
    titles = {stem: method for (method, _), stem in stems(methods).items()}
    by_name = {method.name: method.title or method.name for method in methods}
    declared = coefficients(methods)
    return {
        "format": FORMAT,
        "line": line,
        "coefficients": {
            name: {
                "label": each.label,
                "low": each.low,
                "high": each.high,
                "key": each.key,
                "method": by_name[titles[name]],
            }
            for name, each in declared.items()
        },
    }


def provenance(config: Any) -> dict[str, Any]:
    """When, with what and how the run was started."""
    command = "" if sys.argv[0].endswith(RAY) else shlex.join(["python", *sys.argv])
    date = datetime.now(timezone.utc).isoformat(" ", "minutes")
    return {"date": date, "command": command, "versions": _versions(), "config": config}


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_description(path: Path, methods: Sequence[Method], line: str, config: Any) -> Path | None:
    """Write it; without it the report falls back on the metrics' names, so that a failure only warns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(description(methods, line) | provenance(config), indent=1, default=str).encode())
    except (OSError, ValueError) as error:
        logger.warning("entropo_plugin: %s was not written (%s); the report names coefficients less well.", path, error)
        return None
    return path
