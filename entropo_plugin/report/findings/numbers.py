"""Numbers that are missing or not finite: nothing else that the report says is to be believed before they are."""

from __future__ import annotations

from entropo_plugin.report.findings.finding import LEAST_POINTS, Finding
from entropo_plugin.report.run import Run
from entropo_plugin.report.words import count

MOST_NAMED = 3
# verl's auxiliary statistics may be undefined in a healthy run.
MINOR = "val-aux/"
CAUSE = "Find the cause before you believe anything else."


def not_finite(run: Run) -> list[Finding]:
    """Metrics that turn NaN or infinite and stay so."""
    ends = {name: run.turned(name) for name in run.broken if not name.startswith(MINOR)}
    starts = {name: start for name, start in ends.items() if start is not None}
    if not starts:
        return []
    first = min(starts.values())
    names = sorted(name for name, start in starts.items() if start == first)
    later = len(starts) - len(names)
    text = f"{run.name}: {_listed(names)} not finite from step {count(first)} on"
    text += f", and {later} more {'metric' if later == 1 else 'metrics'} later. " if later else ". "
    return [Finding("bad", "Not finite", text + CAUSE, run.name)]


def fault(run: Run) -> list[Finding]:
    """Tokens whose numbers are not finite."""
    share = run.metric("entropo/tokens/nonfinite_share")
    bad = share.where(share.values > 0) if share else None
    if not bad:
        return []
    text = f"{run.name}: log-probs or entropies are not finite from step {bad.steps[0]} on, "
    text += f"at up to {bad.values.max():.2%} "
    return [Finding("bad", "Broken numbers", f"{text}of the tokens. {CAUSE}", run.name)]


def gaps(run: Run) -> list[Finding]:
    """Metrics that are not finite at some steps and recover."""
    names = [name for name in sorted(run.broken) if name.startswith(MINOR) or run.sound(name)]
    if not names:
        return []
    first = min(int(run.broken[name][0]) for name in names)
    most = max(len(run.broken[name]) for name in names)
    text = f"{run.name}: {_listed(names)} not finite at {count(most)} {'step' if most == 1 else 'steps'}, "
    return [Finding("note", "Gaps in the numbers", f"{text}first at step {count(first)}.", run.name)]


def stopped(run: Run) -> list[Finding]:
    """Entropy that is no longer logged while the run goes on."""
    data = run.sound_entropy
    if data is None or len(data) < LEAST_POINTS or data.last_step >= 0.9 * run.last_step:
        return []
    text = f"{run.name}: no entropy after step {count(data.last_step)}, and the run went on to {count(run.last_step)}."
    return [Finding("note", "Entropy not logged to the end", text, run.name)]


def _listed(names: list[str]) -> str:
    """``a is``, ``a, b are`` or ``a, b, c and 4 more are``."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"
