"""Which of verl's and our metrics mean what, and how a run is asked for them."""

from __future__ import annotations

import re

from entropo_plugin.report.description import Coefficient
from entropo_plugin.report.runs import Run
from entropo_plugin.report.search import natural
from entropo_plugin.report.series import Series

ENTROPY = "entropo/entropy/token_mean"
VERL_ENTROPY = "actor/entropy"
TRL_ENTROPY = "entropy"
TARGET = "entropo/target"
# entropy of the right answers alone, and how many it rests on
RIGHT_ANSWERS, RIGHT_RESPONSES = "entropo/entropy/right_answers", "entropo/diversity/right_responses"
# A metric that is logged with one of these beside it is a coefficient that something moves.
NEXT, AT_BOUND = "_next", "_at_bound"
SCORES = ("critic/score/mean", "critic/rewards/mean")
TRAINING_PASS = re.compile(r"entropo/pass(?:_at/|@)([1-9][0-9]{0,6})")
VALIDATION_MEAN = re.compile(r"val-core/(.+)/mean@([1-9][0-9]{0,6})")
VALIDATION_BEST = re.compile(r"val-(?:core|aux)/(.+)/best@([1-9][0-9]{0,6})/mean")


def coefficients(run: Run) -> dict[str, Coefficient]:
    """What the run moves, by the metric's name without ``entropo/``.

    First what the run's own description names, in its order; then every metric that is logged with its next value or
    with a flag for its bound.
    """
    said = dict(run.about.coefficients)
    for metric in sorted(run.metrics):
        for suffix in (NEXT, AT_BOUND):
            if metric.startswith("entropo/") and metric.endswith(suffix):
                stem = metric.removeprefix("entropo/").removesuffix(suffix)
                said.setdefault(stem, Coefficient(stem))
    return {stem: what for stem, what in said.items() if f"entropo/{stem}" != TARGET}


def controlled(run: Run) -> bool:
    """Whether something acts on the run's entropy: it logs a coefficient or a target."""
    return TARGET in run.metrics or any(f"entropo/{stem}" in run.metrics for stem in coefficients(run))


def entropy_of(run: Run) -> Series | None:
    """Token-mean entropy, nats per token: ours, or the host's where ours is missing."""
    found = run.first_of(ENTROPY, VERL_ENTROPY, TRL_ENTROPY)
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


def validation_passes(run: Run) -> dict[str, dict[int, Series]]:
    """``{validation set: {k: pass@k}}``: verl's ``best@k``, and its ``mean@n`` for k = 1.

    A set's other variables, such as the reward beside the accuracy, are left out where verl names its core ones.
    """
    means, sets = validation_of(run), dict[str, dict[int, Series]]()
    for name, match in _matches(run, VALIDATION_BEST):
        if match[1] in means or not means:
            sets.setdefault(match[1], {})[int(match[2])] = run.metrics[name]
    for source in sets.keys() & means.keys():
        sets[source][1] = means[source]
    return {source: dict(sorted(sets[source].items())) for source in sorted(sets, key=natural)}


def turned(run: Run, name: str) -> int | None:
    """The step from which on a metric is not finite to the end of what was logged; None where its last value is."""
    broken, finite = run.broken.get(name), run.metrics.get(name)
    last = finite.last_step if finite is not None and len(finite) else None
    if broken is None or (last is not None and broken[-1] < last):
        return None
    return int(broken[0] if last is None else broken[broken > last][0])


def is_pass(name: str) -> bool:
    """Whether a metric is a pass@k."""
    return any(pattern.fullmatch(name) for pattern in (TRAINING_PASS, VALIDATION_MEAN, VALIDATION_BEST))


def _matches(run: Run, pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    tried = ((name, pattern.fullmatch(name)) for name in sorted(run.metrics))
    return [(name, match) for name, match in tried if match and len(run.metrics[name])]


def lacking(runs: list[Run], have: list[Run], what: str, remedy: str) -> list[str]:
    """One sentence on the runs that lack something."""
    without = [run.name for run in runs if run not in have]
    if not without:
        return []
    return [f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} no {what}. {remedy}"]
