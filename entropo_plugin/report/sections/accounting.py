"""Entropy-change accounting: what the steps' advantages predicted, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from entropo_plugin.report.figure import Curve, Panel, Section, curve, floats
from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import number
from entropo_plugin.report.sections.metrics import entropy_of, lacking
from entropo_plugin.report.series import Series

LEAD = (
    "To first order a step's advantages and probabilities predict which way it moves entropy. Solid: the change "
    "measured since the start. Dashed: the predictions added up, at one learning rate fitted to the whole run."
)
PREDICTED = "entropo/dynamics/predicted"
REMEDY = "Log it with +entropo=monitor."


@dataclass(frozen=True)
class Account:
    """Pairs of a predicted and the following measured change.

    Attributes:
        steps: ``(pairs,)`` steps at which the change was measured, one after its prediction.
        predicted: nats per token and learning rate.
        measured: nats per token.
    """

    steps: NDArray[np.int64]
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]

    @property
    def rate(self) -> float | None:
        """Least squares through the origin: ``sum p m / sum p^2``, the effective learning rate.

        None where it would not be positive: then the predictions have nothing to do with what happened.
        """
        whole, shared = float(self.predicted @ self.predicted), float(self.predicted @ self.measured)
        return shared / whole if whole > 0 and shared > 0 else None

    @property
    def correlation(self) -> float | None:
        """Pearson's r, or None while one of them has no spread."""
        if len(self.steps) < 3 or self.predicted.std() < 1e-12 or self.measured.std() < 1e-12:
            return None
        return float(np.corrcoef(self.predicted, self.measured)[0, 1])


def account(run: Run) -> Account | None:
    """The pairs of a run: the prediction of step t and the entropy of t + 1 less that of t."""
    entropy, predicted = entropy_of(run), run.metrics.get(PREDICTED)
    if entropy is None or predicted is None:
        return None
    follows = np.flatnonzero(np.diff(entropy.steps) == 1)
    change = Series(entropy.steps[follows], np.diff(entropy.values)[follows])
    shared, at, of = np.intersect1d(change.steps, predicted.steps, assume_unique=True, return_indices=True)
    return Account(shared + 1, predicted.values[of], change.values[at]) if len(shared) else None


def accounting_section(runs: list[Run]) -> Section:
    """Running sums of both, the scatter of single steps, and the balance in words."""
    accounts = [(colour, run, found) for colour, run in enumerate(runs) if (found := account(run))]
    missing = lacking(runs, [run for _, run, _ in accounts], f"{PREDICTED} at two steps in a row", REMEDY)
    panels, remarks = [], []
    if accounts:
        panels = [_sums(accounts), _scatter(accounts)]
        remarks = [_balance(run, found) for _, run, found in accounts]
    return Section("accounting", "Where the entropy went", LEAD, panels, missing, remarks)


def _sums(accounts: list[tuple[int, Run, Account]]) -> Panel:
    curves: list[Curve] = []
    for colour, run, found in accounts:
        curves.append(curve(f"{run.name}: measured", Series(found.steps, np.cumsum(found.measured)), colour))
        if found.rate is not None:
            predicted = Series(found.steps, np.cumsum(found.rate * found.predicted))
            curves.append(curve(f"{run.name}: predicted", predicted, colour, "dashed"))
    return Panel("Entropy change since the start", "step", "nats per token", curves)


def _scatter(accounts: list[tuple[int, Run, Account]]) -> Panel:
    curves = []
    for colour, run, found in accounts:
        index = np.argsort(found.predicted)
        curves.append(Curve(run.name, floats(found.predicted[index]), floats(found.measured[index]), colour, "dots"))
    label = "predicted (nats per token and learning rate)"
    return Panel("Single steps: measured against predicted", label, "measured (nats per token)", curves)


def _balance(run: Run, found: Account) -> str:
    rate, r = found.rate, found.correlation
    agreement = "" if r is None else f", correlation {number(r, 2)}"
    text = f"{run.name}: {len(found.steps)} pairs{agreement}."
    if rate is None:
        return f"{text} The changes do not follow the predictions, so no learning rate was fitted. {OVERRULED}"
    text += f" Fitted learning rate on the logits {number(rate)}."
    for name, which in PARTS.items():
        part = run.metrics.get(f"entropo/dynamics/{name}")
        if part is not None and len(part):
            text += f" Responses {which} than their group account for {number(float(part.values.sum()) * rate)} nats."
    return f"{text} {OVERRULED}" if r is not None and r < 0.2 and len(found.steps) >= 20 else text


PARTS = {"from_positive": "better", "from_negative": "worse"}
OVERRULED = (
    "Noise between prompts, clipping, the optimizer or the entropy control itself overrule the first order here."
)
