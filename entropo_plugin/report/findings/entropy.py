"""Where entropy went, whether that is where it was steered to, and what the controller had left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from entropo_plugin.report.findings.finding import LEAST_POINTS, Finding, percent
from entropo_plugin.report.names import TARGET
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series, summarise, together
from entropo_plugin.report.words import count, number

# Bounds of the words; the figures always stand beside them.
COLLAPSED, EXPLODED = 0.25, 2.0
ON_TARGET = 0.15
BOUND_SHARE = 0.3


@dataclass(frozen=True)
class Aim:
    """Entropy against its target.

    Attributes:
        end, target: both over the last tenth of the steps, nats per token.
        close: share of the steps within ON_TARGET of the target.
    """

    end: float
    target: float
    close: float

    @property
    def away(self) -> float:
        """How far the end is from the target, as a share of it."""
        if self.target > 0:
            return self.end / self.target - 1
        return 0.0 if self.end <= 0 else math.inf

    @property
    def reached(self) -> bool:
        return abs(self.away) <= ON_TARGET


def aim_of(run: Run) -> Aim | None:
    """None where there is no target, too little to say, or nothing that steers to the target."""
    data, target = run.sound_entropy, run.metric(TARGET)
    if data is None or target is None or not run.sound(TARGET) or not _steered(run):
        return None
    steps, (entropy, wanted) = together(data, target)
    if len(steps) < LEAST_POINTS:
        return None
    close = float((abs(entropy - wanted) <= ON_TARGET * abs(wanted)).mean())
    return Aim(summarise(Series(steps, entropy)).end, summarise(Series(steps, wanted)).end, close)


def _steered(run: Run) -> bool:
    """Whether a coefficient moves, or would if its bound let it; a run that logs none is given the benefit."""
    logged = [data for stem in run.coefficients if (data := run.coefficient(stem))]
    stuck = any((flags.values > 0.5).any() for stem in run.coefficients if (flags := run.at_bound(stem)))
    return not logged or stuck or any(float(data.values.max()) > float(data.values.min()) for data in logged)


def course(run: Run) -> list[Finding]:
    """Where entropy went. Where it went as its target asked, that is no fault."""
    data, aim = run.sound_entropy, aim_of(run)
    if data is None or len(data) < LEAST_POINTS or (got := summarise(data)).start <= 0:
        return []
    ratio = got.end / got.start
    text = f"{run.name}: {number(got.start)} to {number(got.end)} nats per token ({percent(ratio - 1)}) "
    text += f"in {count(data.last_step)} steps."
    asked = aim is not None and aim.reached
    if ratio < COLLAPSED and not asked:
        return [Finding("bad", "Entropy collapsed", text + " Little is left to explore with.", run.name)]
    if ratio > EXPLODED and not asked:
        return [Finding("bad", "Entropy exploded", text + " The policy is turning to noise.", run.name)]
    headline = "Entropy fell" if ratio < 0.9 else "Entropy rose" if ratio > 1.1 else "Entropy held"
    return [Finding("fact" if asked or headline == "Entropy held" else "note", headline, text, run.name)]


def tracking(run: Run) -> list[Finding]:
    """Whether entropy is where the controller wants it."""
    aim = aim_of(run)
    if aim is None:
        return []
    away = f" ({percent(aim.away)})" if math.isfinite(aim.away) else ""
    text = f"{run.name}: ends at {number(aim.end)} nats, target {number(aim.target)}{away}; "
    text += f"within {ON_TARGET:.0%} of it in {aim.close:.0%} of the steps."
    if not aim.reached:
        return [Finding("bad", "Off target", text, run.name)]
    if aim.close < 0.5:
        return [Finding("note", "Swings around its target", text, run.name)]
    return [Finding("good", "On target", text, run.name)]


def bound(run: Run) -> list[Finding]:
    """Coefficients that could not go further; bad where entropy misses its target as well."""
    aim = aim_of(run)
    missed = aim is not None and not aim.reached
    shares = {stem: _share(run.at_bound(stem)) for stem in run.coefficients}
    return [_bound(run, stem, share, missed) for stem, share in shares.items() if share >= BOUND_SHARE]


def _share(flags: Series | None) -> float:
    return float((flags.values > 0.5).mean()) if flags and len(flags) >= LEAST_POINTS else 0.0


def _bound(run: Run, stem: str, share: float, missed: bool) -> Finding:
    what = run.coefficients[stem]
    within = f" ({what.bounds})" if what.bounds else ""
    text = f"{run.name}: {what.label} stood at its bound{within} in {share:.0%} of the steps and could not go further."
    if missed:
        text += f" Widen {what.key or 'its bounds'}, or choose a target nearer to the entropy that training leaves "
        text += "(entropo.target)."
    return Finding("bad" if missed else "note", "Controller at its bound", text, run.name)
