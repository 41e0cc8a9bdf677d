"""What is said of each run in one sentence, and the findings for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from entropo_plugin.report.findings import Finding
from entropo_plugin.report.findings.scores import broken_passes
from entropo_plugin.report.names import TARGET
from entropo_plugin.report.run import Run
from entropo_plugin.report.sections.cost import split
from entropo_plugin.report.series import Series, summarise
from entropo_plugin.report.words import count, number

FORMAT = 1
# What a verdict is called after, unless something is bad: where entropy stands.
COURSE = ("On target", "Swings around its target", "Entropy fell", "Entropy rose", "Entropy held")


def verdict(run: Run, found: list[Finding]) -> Finding:
    """One sentence on a run: its gravest finding, or where its entropy stands, and the figures of the story."""
    own = [each for each in found if each.run == run.name]
    bad = [each for each in own if each.mood == "bad"]
    named = bad + [each for name in COURSE for each in own if each.headline == name]
    first = named[0] if named else Finding("fact", "Too short to tell" if not own else own[0].headline, "", run.name)
    figures = [f"{what} {_course(data)}" for what, data in _story(run).items()]
    if run.sound_entropy and (target := run.metric(TARGET)):
        figures[0] += f" (target {number(summarise(target).end)})"
    return replace(first, sentence=f"{', '.join(figures)}; {count(run.last_step)} steps.".lstrip("; "))


def _story(run: Run) -> dict[str, Series]:
    """Entropy, held-out pass@k or score, and reward, as far as they are logged."""
    story = {"entropy": run.sound_entropy}
    if not broken_passes(run):
        scores = {f"held-out score ({name})": data for name, data in run.validation.items()}
        solved = {f"held-out pass@{max(k)} ({name})": k[max(k)] for name, k in run.validation_passes.items()}
        story |= dict(list((solved or scores).items())[:1])
    story["reward"] = run.sound_score
    return {what: data for what, data in story.items() if data}


def _course(data: Series) -> str:
    got = summarise(data)
    return f"{number(got.start)} \u2192 {number(got.end)}" if len(data) > 1 else number(got.end)


def as_json(runs: list[Run], found: list[Finding]) -> str:
    """Runs and findings as one JSON object; all but ASCII is escaped, so that it is safe to show."""
    said = [_of_run(run, verdict(run, found)) for run in runs]
    return json.dumps(
        {"format": FORMAT, "status": status(found), "runs": said, "findings": list(map(_said, found))}, indent=1
    )


def _of_run(run: Run, said: Finding) -> dict[str, object]:
    shares = dict(zip(("no_gradient", "all_right", "all_wrong"), split(run), strict=True))
    own = {"name": run.name, "last_step": run.last_step, "line": run.about.line, "notes": run.notes}
    words = {name: word for name, word in _said(said).items() if name != "run"}
    setup = {"command": run.setup.command, "started": run.setup.started, "versions": run.setup.versions}
    return own | {"verdict": words, "cost": shares} | setup


def _said(finding: Finding) -> dict[str, str]:
    return {"run": finding.run} | asdict(finding) | {"page": finding.page}


def status(found: list[Finding]) -> int:
    """1 where a finding is bad, else 0."""
    return int(any(each.mood == "bad" for each in found))
