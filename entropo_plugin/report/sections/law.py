"""Reward against entropy, and the law R = -a exp(H) + b fitted to it (EM, arXiv 2505.22617, equation 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from entropo_plugin.report.figure import Curve, Panel, Section, floats
from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import number
from entropo_plugin.report.sections.metrics import COEFFICIENTS, entropy_of, lacking, score_of, validation_of
from entropo_plugin.report.series import Series, together
from entropo_plugin.report.tags import table

if TYPE_CHECKING:
    from entropo_plugin.monitor.law import LawFit

LEAD = (
    "How much score a run buys with its entropy. Without control most runs follow R = \u2212a exp(H) + b, so the "
    "score ends at the ceiling b \u2212 a when entropy has reached 0. A run above another gets more for its entropy."
)
LEAST_VALIDATIONS = 5
BLOCKS = 40

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
        curves += _curves(run.name, pairs, fit, colour)
        rows.append(_row(run.name, fit))
        section.remarks.append(f"{run.name}, {what}: {_verdict(run, fit)}")
    if curves:
        section.panels.append(Panel("Reward against entropy", "entropy (nats per token)", "score", curves))
    section.missing.extend(lacking(runs, have, "steps with both an entropy and a score", "It takes at least two."))
    body = table("Fit of R = \u2212a exp(H) + b", HEADS, rows) if rows else ""
    return Section(section.key, section.title, LEAD, section.panels, section.missing, section.remarks, body)


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
    _, (first, second) = together(entropy, score)
    return first, second


def blocked(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Means over consecutive blocks of ``size``; the last block may be shorter."""
    if size <= 1:
        return values
    starts = np.arange(0, len(values), size)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def _curves(name: str, pairs: Pairs, fit: LawFit, colour: int) -> list[Curve]:
    found = [Curve(name, floats(pairs[0]), floats(pairs[1]), colour, "dots")]
    if fit.a is not None and fit.b is not None:
        at = np.linspace(0.0 if fit.trusted else float(pairs[0].min()), float(pairs[0].max()), 60)
        label = f"{name}: fit" + ("" if fit.trusted else ", not to be trusted")
        found.append(Curve(label, floats(at), floats(fit.b - fit.a * np.exp(at)), colour, "dashed"))
    return found


def _row(name: str, fit: LawFit) -> list[str]:
    known = fit.trusted and fit.low is not None and fit.high is not None
    figures = [fit.a, fit.b, fit.r_squared, fit.ceiling if known else None]
    interval = f"{number(fit.low)} to {number(fit.high)}" if known else "\u2013"  # type: ignore[arg-type]
    return [name, *("\u2013" if each is None else number(each) for each in figures), interval, str(fit.points)]


def _verdict(run: Run, fit: LawFit) -> str:
    """Whether to trust the fit; a controlled run's fit forecasts nothing, however good it is."""
    if fit.trusted and any(f"entropo/{name}" in run.metrics for name in COEFFICIENTS):
        return (
            f"R\u00b2 = {fit.r_squared:.2f}. Entropy was controlled: the fit describes the run, and forecasts nothing."
        )
    return fit.verdict.replace("R^2", "R\u00b2")
