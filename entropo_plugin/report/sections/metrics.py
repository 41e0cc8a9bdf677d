"""Which of verl's and our metrics mean what, and how a run is asked for them."""

from __future__ import annotations

import re

from entropo_plugin.report.runs import Run
from entropo_plugin.report.series import Series

ENTROPY = "entropo/entropy/token_mean"
VERL_ENTROPY = "actor/entropy"
TARGET = "entropo/target"
# The coefficients that controllers move, and what they are.
COEFFICIENTS = {
    "zeta": "REPO's zeta",
    "pull": "neutral REPO's pull",
    "clip_high": "ADAPO's upper clip",
    "ratio": "Clip-Cov's ratio",
    "beta": "KL-Cov's beta",
}
SCORES = ("critic/score/mean", "critic/rewards/mean")
TRAINING_PASS = re.compile(r"entropo/pass(?:_at/|@)(\d+)")
VALIDATION_MEAN = re.compile(r"val-core/(.+)/mean@(\d+)")
VALIDATION_BEST = re.compile(r"val-(?:core|aux)/(.+)/best@(\d+)/mean")


def entropy_of(run: Run) -> Series | None:
    """Token-mean entropy, nats per token: ours, or verl's where ours is missing."""
    found = run.first_of(ENTROPY, VERL_ENTROPY)
    return found[1] if found else None


def score_of(run: Run) -> Series | None:
    """Mean training score."""
    found = run.first_of(*SCORES)
    return found[1] if found else None


def validation_of(run: Run) -> dict[str, Series]:
    """``{data source and variable: score}`` of verl's core validation metrics."""
    return {match[1]: run.metrics[name] for name, match in _matches(run, VALIDATION_MEAN)}


def training_pass(run: Run) -> dict[int, Series]:
    """``{k: pass@k}`` on the training prompts."""
    found = {int(match[1]): run.metrics[name] for name, match in _matches(run, TRAINING_PASS)}
    return dict(sorted(found.items()))


def validation_pass(run: Run) -> dict[int, Series]:
    """``{k: pass@k}`` on the first validation set: verl's ``best@k``, and its ``mean@n`` for k = 1."""
    means = {match[1]: run.metrics[name] for name, match in _matches(run, VALIDATION_MEAN)}
    best = [(match[1], int(match[2]), run.metrics[name]) for name, match in _matches(run, VALIDATION_BEST)]
    source = min(means, default=min((name for name, _, _ in best), default=None))
    found = {k: data for name, k, data in best if name == source}
    if source in means and found:
        found[1] = means[source]
    return dict(sorted(found.items()))


def _matches(run: Run, pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    tried = ((name, pattern.fullmatch(name)) for name in sorted(run.metrics))
    return [(name, match) for name, match in tried if match and len(run.metrics[name])]


def lacking(runs: list[Run], have: list[Run], what: str, remedy: str) -> list[str]:
    """One sentence on the runs that lack something."""
    without = [run.name for run in runs if run not in have]
    if not without:
        return []
    return [f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} no {what}. {remedy}"]
