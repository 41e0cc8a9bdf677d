"""Numbers that are missing or not finite: nothing else that the report says is to be believed before they are."""

from __future__ import annotations

from entropo_plugin.report.findings.finding import LEAST_POINTS, Finding
from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import count
from entropo_plugin.report.sections.metrics import ENTROPY, VERL_ENTROPY, entropy_of, turned

MOST_NAMED = 3
# verl's auxiliary statistics may be undefined in a healthy run.
MINOR = "val-aux/"
CAUSE = "Find the cause before you believe anything else."


def not_finite(run: Run) -> list[Finding]:
    """Metrics that turn NaN or infinite and stay so."""
    starts = {
        name: start for name in run.broken if (start := turned(run, name)) is not None and not name.startswith(MINOR)
    }
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
    share = run.metrics.get("entropo/tokens/nonfinite_share")
    if share is None or not (share.values > 0).any():
        return []
    first = int(share.steps[share.values > 0][0])
    text = f"{run.name}: log-probs or entropies are not finite from step {first} on, at up to {share.values.max():.2%} "
    return [Finding("bad", "Broken numbers", f"{text}of the tokens. {CAUSE}", run.name)]


def gaps(run: Run) -> list[Finding]:
    """Metrics that are not finite at some steps and recover."""
    names = [name for name in sorted(run.broken) if name.startswith(MINOR) or turned(run, name) is None]
    if not names:
        return []
    first = min(int(run.broken[name][0]) for name in names)
    most = max(len(run.broken[name]) for name in names)
    text = f"{run.name}: {_listed(names)} not finite at {count(most)} {'step' if most == 1 else 'steps'}, "
    return [Finding("note", "Gaps in the numbers", f"{text}first at step {count(first)}.", run.name)]


def stopped(run: Run) -> list[Finding]:
    """Entropy that is no longer logged while the run goes on."""
    data, names = entropy_of(run), (ENTROPY, VERL_ENTROPY)
    if data is None or any(turned(run, name) is not None for name in names):
        return []
    if len(data) < LEAST_POINTS or data.last_step >= 0.9 * run.last_step:
        return []
    text = f"{run.name}: no entropy after step {count(data.last_step)}, and the run went on to {count(run.last_step)}."
    return [Finding("note", "Entropy not logged to the end", text, run.name)]


def _listed(names: list[str]) -> str:
    """``a is``, ``a, b are`` or ``a, b, c and 4 more are``."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"
