"""The findings for programs."""

from __future__ import annotations

import json

from entropo_plugin.report.findings import Finding
from entropo_plugin.report.runs import Run

FORMAT = 1


def as_json(runs: list[Run], found: list[Finding]) -> str:
    """Runs and findings as one JSON object; all but ASCII is escaped, so that it is safe to show."""
    return json.dumps(
        {
            "format": FORMAT,
            "runs": [
                {"name": run.name, "last_step": run.last_step, "line": run.about.line, "notes": run.notes}
                for run in runs
            ],
            "findings": [
                {"run": each.run, "mood": each.mood, "headline": each.headline, "sentence": each.sentence}
                for each in found
            ],
        },
        indent=1,
    )


def status(found: list[Finding]) -> int:
    """1 where a finding is bad, else 0."""
    return int(any(each.mood == "bad" for each in found))
