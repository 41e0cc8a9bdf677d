"""What the numbers say, in plain language: one sentence a finding, the gravest first."""

from __future__ import annotations

from dataclasses import dataclass

from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import count, number
from entropo_plugin.report.sections.metrics import (
    COEFFICIENTS,
    TARGET,
    entropy_of,
    score_of,
    training_pass,
    validation_pass,
)
from entropo_plugin.report.series import Series, summarise, together

# Bounds of the words; the figures always stand beside them.
COLLAPSED, EXPLODED = 0.25, 2.0
ON_TARGET = 0.15
BOUND_SHARE = 0.3
LEAST_POINTS = 5
ORDER = {"bad": 0, "note": 1, "good": 2}


@dataclass(frozen=True)
class Finding:
    """One sentence.

    Attributes:
        mood: bad | note | good.
        headline: two to four words.
        sentence: with its figures.
    """

    mood: str
    headline: str
    sentence: str


def findings(runs: list[Run]) -> list[Finding]:
    """All findings over all runs."""
    each = (fault, course, tracking, bound, diversity)
    found = [finding for run in runs for look in each if (finding := look(run))]
    found += [finding for look in (lengths, reward) if (finding := look(runs))]
    return sorted(found, key=lambda finding: ORDER[finding.mood])


def fault(run: Run) -> Finding | None:
    """Tokens whose numbers are not finite."""
    share = run.metrics.get("entropo/tokens/nonfinite_share")
    if share is None or not (share.values > 0).any():
        return None
    first = int(share.steps[share.values > 0][0])
    text = f"{run.name}: log-probs or entropies are not finite from step {first} on, at up to {share.values.max():.2%} "
    return Finding("bad", "Broken numbers", text + "of the tokens. Find the cause before you believe anything else.")


def course(run: Run) -> Finding | None:
    """Where entropy went."""
    data = entropy_of(run)
    if data is None or len(data) < LEAST_POINTS:
        return None
    got = summarise(data)
    if got.start <= 0:
        return None
    ratio = got.end / got.start
    text = f"{run.name}: {number(got.start)} to {number(got.end)} nats per token ({_percent(ratio - 1)}) "
    text += f"in {count(data.last_step)} steps."
    if ratio < COLLAPSED:
        return Finding("bad", "Entropy collapsed", text + " Little is left to explore with.")
    if ratio > EXPLODED:
        return Finding("bad", "Entropy exploded", text + " The policy is turning to noise.")
    return Finding("note", "Entropy fell" if ratio < 0.9 else "Entropy rose" if ratio > 1.1 else "Entropy held", text)


def tracking(run: Run) -> Finding | None:
    """Whether entropy is where the controller wants it."""
    data, target = entropy_of(run), run.metrics.get(TARGET)
    if data is None or target is None:
        return None
    steps, (entropy, wanted) = together(data, target)
    if len(steps) < LEAST_POINTS:
        return None
    end, aim = summarise(Series(steps, entropy)).end, summarise(Series(steps, wanted)).end
    away = end / aim - 1 if aim > 0 else 0.0
    close = float((abs(entropy - wanted) <= ON_TARGET * abs(wanted)).mean())
    text = f"{run.name}: ends at {number(end)} nats, target {number(aim)} ({_percent(away)}); "
    text += f"within {ON_TARGET:.0%} of it in {close:.0%} of the steps."
    if abs(away) > ON_TARGET:
        return Finding("bad", "Off target", text)
    return Finding("good", "On target", text) if close >= 0.5 else Finding("note", "Swings around its target", text)


def bound(run: Run) -> Finding | None:
    """A controller that has nothing left to give."""
    for name, what in COEFFICIENTS.items():
        flags = run.metrics.get(f"entropo/{name}_at_bound")
        if flags is None or len(flags) < LEAST_POINTS:
            continue
        share = float((flags.values > 0.5).mean())
        if share >= BOUND_SHARE:
            text = f"{run.name}: {what} stood at its bound in {share:.0%} of the steps and could not go further."
            return Finding("bad", "Controller at its bound", text + (RAISE if name == "zeta" else ""))
    return None


RAISE = " Raise entropo.repo.zeta.high, or choose a target nearer to the entropy that training leaves."


def diversity(run: Run) -> Finding | None:
    """pass@1 against pass@k."""
    both = {"training": training_pass(run), "validation": validation_pass(run)}
    where, passes = max(both.items(), key=lambda found: max(map(len, found[1].values()), default=0))
    if len(passes) < 2 or max(map(len, passes.values())) < LEAST_POINTS:
        return None
    one, many = summarise(passes[min(passes)]), summarise(passes[max(passes)])
    text = f"{run.name}, {where} prompts: pass@{min(passes)} {number(one.start)} to {number(one.end)}, "
    text += f"pass@{max(passes)} {number(many.start)} to {number(many.end)}."
    if one.end > one.start and many.end < many.start - 0.02:
        return Finding("bad", "Diversity spent", text + " One try gets better while many tries get worse.")
    if many.end > many.start + 0.02:
        return Finding("good", "More gets solved", text)
    return None


def lengths(runs: list[Run]) -> Finding | None:
    """Runs that cannot be compared at their ends."""
    last = {run.name: run.last_step for run in runs}
    if len(runs) < 2 or max(last.values()) <= 1.05 * min(last.values()):
        return None
    text = ", ".join(f"{name} {count(step)}" for name, step in last.items())
    return Finding(
        "note", "Different lengths", f"Last steps: {text}. Compare at step {count(min(last.values()))} or before."
    )


def reward(runs: list[Run]) -> Finding | None:
    """Who earns most at the last step that all share."""
    scores = {run.name: data for run in runs if (data := score_of(run)) is not None and len(data) >= LEAST_POINTS}
    if len(scores) < 2:
        return None
    until = min(data.last_step for data in scores.values())
    cut = {
        name: Series(data.steps[data.steps <= until], data.values[data.steps <= until]) for name, data in scores.items()
    }
    ends = {name: summarise(data).end for name, data in cut.items() if len(data)}
    ranked = sorted(ends, key=lambda name: -ends[name])
    text = ", ".join(f"{name} {number(ends[name])}" for name in ranked)
    return Finding(
        "note",
        "Reward",
        f"At step {count(until)}: {text}. One run each: a repeat with another seed may order them anew.",
    )


def _percent(change: float) -> str:
    sign = "\u00b1" if abs(change) < 0.005 else "\u2212" if change < 0 else "+"
    return f"{sign}{abs(change):.0%}"
