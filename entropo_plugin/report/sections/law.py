"""Reward against entropy, and the law R = -a exp(H) + b fitted to it (arXiv 2505.22617, equation 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from entropo_plugin.report.figure import Curve, Panel, Section, Table, floats
from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import number
from entropo_plugin.report.sections.metrics import (
    ENTROPY,
    SCORES,
    VERL_ENTROPY,
    controlled,
    entropy_of,
    lacking,
    score_of,
    turned,
    validation_of,
)
from entropo_plugin.report.series import Series, together

if TYPE_CHECKING:
    from entropo_plugin.monitor.law import LawFit

LEAD = (
    "How much score a run buys with its entropy. Without control most runs follow R = \u2212a exp(H) + b, so the "
    "score ends at the ceiling b \u2212 a when entropy has reached 0. A run above another gets more for its entropy."
)
LEAST_VALIDATIONS = 5
BLOCKS = 40
NEEDED = (ENTROPY, VERL_ENTROPY, *SCORES)
# nats; the logarithm of the largest vocabularies is 13
LARGEST_ENTROPY = 100.0

Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]


def law_section(runs: list[Run]) -> Section:
    """The cloud of (entropy, score) of each run, its fit, and whether to trust it."""
    from entropo_plugin.monitor.law import fit_law

    section = Section("law", "Reward against entropy", LEAD)
    curves, rows, have = [], [], []
    for colour, run in enumerate(runs):
        pairs, what = pairs_of(run)
        if len(pairs[0]) < 2:
            continue
        have.append(run)
        fit = fit_law(zip(floats(pairs[0]), floats(pairs[1]), strict=True))
        cloud = Cloud(run.name, pairs, fit, controlled(run), any(turned(run, name) is not None for name in NEEDED))
        curves += _curves(cloud, colour)
        rows.append(_row(cloud))
        section.remarks.append(f"{run.name}, {what}: {_verdict(cloud)}")
    if curves:
        section.panels.append(Panel("Reward against entropy", "entropy (nats per token)", "score", curves))
    section.missing.extend(lacking(runs, have, "steps with both an entropy and a score", "It takes at least two."))
    if rows:
        section.tables.append(Table("Fit of R = \u2212a exp(H) + b", HEADS, rows))
    return section


HEADS = ["run", "a", "b", "R\u00b2", "ceiling b \u2212 a", "95 % interval", "points"]


def pairs_of(run: Run) -> tuple[Pairs, str]:
    """Entropies and scores at the same steps, and what the scores are.

    Validation scores where there are at least five; else training scores, in at most 40 block means, because those of
    single steps are noisy.
    """
    entropy, scores = entropy_of(run), validation_of(run)
    score = score_of(run)
    nothing = (np.zeros(0), np.zeros(0))
    if entropy is None:
        return nothing, ""
    checked = next((each for each in scores.values() if len(together(entropy, each)[0]) >= LEAST_VALIDATIONS), None)
    if checked is not None:
        return _values(entropy, checked), "validation scores"
    if score is None:
        return nothing, ""
    found = _values(entropy, score)
    size = -(-len(found[0]) // BLOCKS)
    blocks = (blocked(found[0], size), blocked(found[1], size))
    return blocks, "training scores" + (f", means over {size} steps" if size > 1 else "")


def _values(entropy: Series, score: Series) -> Pairs:
    """Both at the steps that they share; an entropy that no vocabulary can have is passed over."""
    _, (first, second) = together(entropy, score)
    possible = first < LARGEST_ENTROPY
    return first[possible], second[possible]


def blocked(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Means over consecutive blocks of ``size``; the last block may be shorter."""
    if size <= 1:
        return values
    starts = np.arange(0, len(values), size)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


@dataclass(frozen=True)
class Cloud:
    """One run's pairs and what may be said of their fit.

    Attributes:
        pairs: entropies and scores as they are drawn.
        fit: the law through them.
        steered: whether something acts on the run's entropy.
        broken: whether entropy or score is not finite at the end.
    """

    name: str
    pairs: Pairs
    fit: LawFit
    steered: bool
    broken: bool

    @property
    def forecasts(self) -> bool:
        """Whether its ceiling may be shown."""
        return self.believed and not self.steered

    @property
    def believed(self) -> bool:
        """Whether the fit describes the run."""
        return self.fit.trusted and not self.broken


def _curves(cloud: Cloud, colour: int) -> list[Curve]:
    (entropy, score), fit = cloud.pairs, cloud.fit
    order = np.argsort(entropy)
    curves = [Curve(cloud.name, floats(entropy[order]), floats(score[order]), colour, "dots")]
    if fit.a is not None and fit.b is not None:
        at = np.linspace(0.0 if cloud.forecasts else float(entropy.min()), float(entropy.max()), 60)
        label = f"{cloud.name}: fit" + ("" if cloud.believed else ", not to be trusted")
        curves.append(Curve(label, floats(at), floats(fit.b - fit.a * np.exp(at)), colour, "dashed"))
    return curves


def _row(cloud: Cloud) -> list[str]:
    fit = cloud.fit
    known = cloud.forecasts and fit.low is not None and fit.high is not None
    figures = [fit.a, fit.b, fit.r_squared, fit.ceiling if known else None]
    interval = f"{number(fit.low)} to {number(fit.high)}" if known else "\u2013"  # type: ignore[arg-type]
    return [cloud.name, *("\u2013" if each is None else number(each) for each in figures), interval, str(fit.points)]


def _verdict(cloud: Cloud) -> str:
    """Whether to trust the fit; a controlled run's fit forecasts nothing, however good it is."""
    fit = cloud.fit
    if fit.trusted and cloud.broken:
        return "Don't trust this fit: entropy or score is not finite at the end."
    if fit.trusted and cloud.steered:
        return f"R\u00b2 = {fit.r_squared:.2f}. Entropy was controlled: the fit describes it, and forecasts nothing."
    return fit.verdict.replace("R^2", "R\u00b2")
