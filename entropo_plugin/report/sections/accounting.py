"""Entropy-change accounting: what the steps' advantages predicted, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from entropo_plugin.report.figure import Curve, Panel, Section, curve, lacking
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series, Steps, together
from entropo_plugin.report.words import number

LEAD = (
    "To first order a step's advantages and probabilities predict which way it moves entropy. Solid: the change "
    "measured since the start. Dashed: the predictions added up, at one learning rate fitted to the whole run."
)
PREDICTED = "entropo/dynamics/predicted"
PARTS = {"entropo/dynamics/from_positive": "better", "entropo/dynamics/from_negative": "worse"}
OVERRULED = (
    " Noise between prompts, clipping, the optimizer or the entropy control itself overrule the first order here."
)


@dataclass(frozen=True)
class Account:
    """Pairs of a predicted and the following measured change.

    Attributes:
        steps: ``(pairs,)`` steps at which the change was measured, one after its prediction.
        predicted: nats per token and learning rate.
        measured: nats per token.
    """

    run: Run
    steps: Steps
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
    entropy, predicted = run.entropy, run.metric(PREDICTED)
    if entropy is None or predicted is None:
        return None
    follows = np.flatnonzero(np.diff(entropy.steps) == 1)
    change = Series(entropy.steps[follows], np.diff(entropy.values)[follows])
    shared, (said, measured) = together(predicted, change)
    return Account(run, shared + 1, said, measured) if len(shared) else None


def accounting_section(runs: list[Run]) -> Section:
    """Running sums of both, the scatter of single steps, and the balance in words."""
    found = [each for run in runs if (each := account(run))]
    have = [each.run for each in found]
    missing = lacking(runs, have, f"{PREDICTED} at two steps in a row", "Log it with +entropo=monitor.")
    sums = [line for each in found for line in _sums(each)]
    label = "predicted (nats per token and learning rate)"
    panels = [
        Panel("Entropy change since the start", "step", "nats per token", sums),
        Panel("Single steps: measured against predicted", label, "measured (nats per token)", list(map(_cloud, found))),
    ]
    remarks = list(map(_balance, found))
    return Section("accounting", "Where the entropy went", LEAD, panels, missing, remarks)


def _sums(found: Account) -> list[Curve]:
    lines = [curve(found.run, Series(found.steps, np.cumsum(found.measured)), what="measured")]
    if found.rate is not None:
        predicted = Series(found.steps, np.cumsum(found.rate * found.predicted))
        lines.append(curve(found.run, predicted, "dashed", "predicted"))
    return lines


def _cloud(found: Account) -> Curve:
    order = np.argsort(found.predicted)
    return Curve(found.run.name, found.predicted[order], found.measured[order], found.run.place, "dots")


def _balance(found: Account) -> str:
    run, rate, r = found.run, found.rate, found.correlation
    agreement = "" if r is None else f", correlation {number(r, 2)}"
    text = f"{run.name}: {len(found.steps)} pairs{agreement}."
    if rate is None:
        return f"{text} The changes do not follow the predictions, so no learning rate was fitted.{OVERRULED}"
    text += f" Fitted learning rate on the logits {number(rate)}."
    for name, which in PARTS.items():
        if part := run.metric(name):
            text += f" Responses {which} than their group account for {number(float(part.values.sum()) * rate)} nats."
    return text + (OVERRULED if r is not None and r < 0.2 and len(found.steps) >= 20 else "")
