"""Reward against entropy, and the law R = -a exp(H) + b fitted to it (arXiv 2505.22617, equation 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from entropo_plugin.report.figure import Curve, Panel, Section, Table, lacking
from entropo_plugin.report.names import ENTROPY, SCORES, VERL_ENTROPY
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series, blocked, together
from entropo_plugin.report.words import number

if TYPE_CHECKING:
    from entropo_plugin.monitor.law import LawFit

LEAD = (
    "How much score a run buys with its entropy. Without control most runs follow R = \u2212a exp(H) + b, so the "
    "score ends at the ceiling b \u2212 a when entropy has reached 0. A run above another gets more for its entropy."
)
HEADS = ["run", "a", "b", "R\u00b2", "ceiling b \u2212 a", "95 % interval", "points"]
LEAST_VALIDATIONS = 5
BLOCKS = 40
# nats; the logarithm of the largest vocabularies is 13
LARGEST_ENTROPY = 100.0

Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Cloud:
    """One run's pairs and what may be said of their fit.

    Attributes:
        pairs: entropies and scores as they are drawn.
        what: what the scores are.
        fit: the law through them.
    """

    run: Run
    pairs: Pairs
    what: str
    fit: LawFit

    @property
    def believed(self) -> bool:
        """Whether the fit describes the run."""
        return self.fit.trusted and self.run.sound(ENTROPY, VERL_ENTROPY, *SCORES)

    @property
    def forecasts(self) -> bool:
        """Whether its ceiling may be shown: nothing acts on the run's entropy."""
        return self.believed and not self.run.controlled


def law_section(runs: list[Run]) -> Section:
    """The cloud of (entropy, score) of each run, its fit, and whether to trust it."""
    clouds = [cloud for run in runs if (cloud := cloud_of(run))]
    have = [cloud.run for cloud in clouds]
    missing = lacking(runs, have, "steps with both an entropy and a score", "It takes at least two.")
    curves = [each for cloud in clouds for each in _curves(cloud)]
    panel = Panel("Reward against entropy", "entropy (nats per token)", "score", curves)
    table = Table("Fit of R = \u2212a exp(H) + b", HEADS, list(map(_row, clouds)))
    remarks = [f"{cloud.run.name}, {cloud.what}: {_verdict(cloud)}" for cloud in clouds]
    return Section("law", "Reward against entropy", LEAD, [panel], missing, remarks, [table])


def cloud_of(run: Run) -> Cloud | None:
    """The pairs of a run and their fit; None where there are fewer than two."""
    from entropo_plugin.monitor.law import fit_law

    (entropy, score), what = pairs_of(run)
    fit = fit_law(zip(entropy.tolist(), score.tolist(), strict=True)) if len(entropy) >= 2 else None
    return Cloud(run, (entropy, score), what, fit) if fit else None


def pairs_of(run: Run) -> tuple[Pairs, str]:
    """Entropies and scores at the same steps, and what the scores are.

    Validation scores where there are at least five; else training scores, in at most 40 block means, because those of
    single steps are noisy.
    """
    nothing = Series(np.zeros(0, dtype=np.int64), np.zeros(0))
    entropy, score = run.entropy or nothing, run.score or nothing
    for checked in run.validation.values():
        if len(together(entropy, checked)[0]) >= LEAST_VALIDATIONS:
            return _values(entropy, checked), "validation scores"
    first, second = _values(entropy, score)
    size = max(1, -(-len(first) // BLOCKS))
    what = "training scores" + (f", means over {size} steps" if size > 1 else "")
    return (blocked(first, size), blocked(second, size)), what


def _values(entropy: Series, score: Series) -> Pairs:
    """Both at the steps that they share; an entropy that no vocabulary can have is passed over."""
    _, (first, second) = together(entropy, score)
    possible = first < LARGEST_ENTROPY
    return first[possible], second[possible]


def _curves(cloud: Cloud) -> list[Curve]:
    (entropy, score), fit, run = cloud.pairs, cloud.fit, cloud.run
    order = np.argsort(entropy)
    curves = [Curve(run.name, entropy[order], score[order], run.place, "dots")]
    if fit.a is not None and fit.b is not None:
        at = np.linspace(0.0 if cloud.forecasts else float(entropy.min()), float(entropy.max()), 60)
        label = "fit" if cloud.believed else "fit, not to be trusted"
        curves.append(Curve(f"{run.name}: {label}", at, fit.b - fit.a * np.exp(at), run.place, "dashed"))
    return curves


def _row(cloud: Cloud) -> list[str]:
    fit = cloud.fit
    known = cloud.forecasts and fit.low is not None
    figures = map(number, (fit.a, fit.b, fit.r_squared, fit.ceiling if known else None))
    interval = f"{number(fit.low)} to {number(fit.high)}" if known else number(None)
    return [cloud.run.name, *figures, interval, str(fit.points)]


def _verdict(cloud: Cloud) -> str:
    """Whether to trust the fit; a controlled run's fit forecasts nothing, however good it is."""
    fit = cloud.fit
    if fit.trusted and not cloud.believed:
        return "Don't trust this fit: entropy or score is not finite at the end."
    if fit.trusted and not cloud.forecasts:
        return f"R\u00b2 = {fit.r_squared:.2f}. Entropy was controlled: the fit describes it, and forecasts nothing."
    return fit.verdict.replace("R^2", "R\u00b2")
