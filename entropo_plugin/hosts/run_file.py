"""``run.json``: what is active and what its coefficients mean, beside a run's log, for the report."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from entropo_plugin.atomic import replacing
from entropo_plugin.methods import Method
from entropo_plugin.methods.active import coefficients, stems

logger = logging.getLogger("entropo_plugin")

FORMAT = 1


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


def write_description(path: Path, methods: Sequence[Method], line: str) -> Path | None:
    """Write it; without it the report falls back on the metrics' names, so that a failure only warns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(description(methods, line), indent=1).encode())
    except (OSError, ValueError) as error:
        logger.warning("entropo_plugin: %s was not written (%s); the report names coefficients less well.", path, error)
        return None
    return path
