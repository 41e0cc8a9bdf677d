"""Why entropy moves: the first-order change that a step's advantages predict, and the change that is then measured.

Notation: p the probability of the sampled token, ``L = log p + H`` its log-prob centred over the vocabulary at that
state, A its advantage. Changes are in nats per token and per unit of learning rate on the logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropo_plugin import metric_names as names
from entropo_plugin.monitor.running_regression import LARGEST, RunningLine
from entropo_plugin.monitor.tokens import LOWEST, StepTokens
from entropo_plugin.shapes import same_shape

# arXiv 2505.22617: the tokens of this top share have a thousand times the mean covariance, 3.112 against .003.
TOP_PER_THOUSAND = 2
# An instrument below this F of its first stage gives an estimate that is nearly as biased as least squares (Staiger
# and Stock 1997).
LEAST_F = 10.0
FIELDS = ("old_log_probs", "entropy", "advantages")


@same_shape("logp", "entropy", "advantage", "kept")
def token_change(
    logp: Tensor, entropy: Tensor, advantage: Tensor, expected: Tensor | float = 0.0, kept: Tensor | None = None
) -> Tensor:
    """First-order entropy change that each sampled token brings: ``-M A (p L - E_p[p L])``.

    A policy-gradient step on the logits, ``dz = eta p A``: arXiv 2505.22617, theorem 1, and arXiv 2603.11682,
    theorem 1, here for one sampled token. Its mean over ``a ~ p`` is ``-Cov_p(log p, p (A - E_p A))``.

    Args:
        logp, entropy, advantage: same shape, at the same states, fp64; a logp of -inf has p = 0 and changes nothing.
        expected: ``E_p[p L]`` at those states where the whole distribution is known. From sampled tokens alone it is
            not; 0 leaves the mean unchanged wherever the advantage is centred at its state (``E_p[A] = 0``).
        kept: M of :func:`clip_kept`; None keeps all.
    """
    logp = logp.clamp(min=LOWEST)
    pull = advantage * (logp.exp() * (logp + entropy) - expected)
    return -pull if kept is None else -pull * kept


@same_shape("advantage", "ratio")
def clip_kept(advantage: Tensor, ratio: Tensor, low: float, high: float) -> Tensor:
    """PPO's mask M: False where the clip cuts the gradient, ``A > 0, r > 1 + high`` or ``A < 0, r < 1 - low``."""
    cut = ((advantage > 0) & (ratio > 1 + high)) | ((advantage < 0) & (ratio < 1 - low))
    return ~cut


def dynamics_metrics(tokens: StepTokens) -> dict[str, float]:
    """What the step is about to do to entropy, and which tokens do it, under ``entropo/dynamics/``.

    - ``predicted``: ``-mean(p A L)``
    - ``predicted_natural``: ``-mean(A L)``, for a natural-gradient step (arXiv 2505.22617, theorem 2)
    - ``from_positive``, ``from_negative``: the parts of ``predicted`` from tokens with A > 0 and A < 0
    - ``positive_share``, ``negative_share``, ``top_share``: share of ``sum |p A L|`` from A > 0, from A < 0, and from
      the 0.2 % of tokens with the largest ``|p A L|``
    - ``neutral_beta``: ``mean(p A L) / mean(p L^2)``, the beta with which ``A - beta L`` leaves entropy as it is
    """
    if tokens.entropy is None or tokens.advantages is None:
        return {}
    logp, entropy, advantage = tokens.flat(*FIELDS, impossible=True)
    if not len(logp):
        return {}
    centred = logp + entropy
    change = token_change(logp, entropy, advantage)
    metrics = {names.DYNAMICS_PREDICTED: float(change.mean())} | _natural(tokens) | _shares(change, advantage)
    restoring = float((logp.exp() * centred).dot(centred)) / len(centred)
    if restoring > 0:
        metrics[names.DYNAMICS_NEUTRAL_BETA] = -metrics[names.DYNAMICS_PREDICTED] / restoring
    return metrics


def _natural(tokens: StepTokens) -> dict[str, float]:
    """The part that p does not weigh: a log-prob of -inf has no finite value in it, and is left out."""
    logp, entropy, advantage = tokens.flat(*FIELDS)
    if not len(logp):
        return {}
    return {names.DYNAMICS_PREDICTED_NATURAL: -float(advantage.dot(logp + entropy)) / len(logp)}


def _shares(change: Tensor, advantage: Tensor) -> dict[str, float]:
    size, positive, negative = change.abs(), (advantage > 0).double(), (advantage < 0).double()
    metrics = {
        names.DYNAMICS_FROM_POSITIVE: float(change.dot(positive)) / len(change),
        names.DYNAMICS_FROM_NEGATIVE: float(change.dot(negative)) / len(change),
    }
    whole = float(size.sum())
    if whole > 0:
        first = len(size) + -TOP_PER_THOUSAND * len(size) // 1000
        metrics[names.DYNAMICS_POSITIVE_SHARE] = float(size.dot(positive)) / whole
        metrics[names.DYNAMICS_NEGATIVE_SHARE] = float(size.dot(negative)) / whole
        metrics[names.DYNAMICS_TOP_SHARE] = float(np.partition(size.numpy(), first)[first:].sum()) / whole
    return metrics


def most_expensive(tokens: StepTokens, n: int) -> Tensor:
    """``(at most n, 2)`` row and position of the tokens predicted to cost most entropy, the costliest first.

    Tokens that cost nothing are never among them; equal ones stand in order of row and position.
    """
    found, _ = _costliest(tokens, n)
    return found


def _costliest(tokens: StepTokens, n: int) -> tuple[Tensor, Tensor]:
    """Row and position ``(at most n, 2)`` of the costliest tokens, and their place among all tokens of the policy."""
    if tokens.entropy is None or tokens.advantages is None or n < 1:
        return torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    change, kept = token_change(*(tokens.column(name) for name in FIELDS)), tokens.keep(*FIELDS, impossible=True)
    change = change if kept is None else torch.where(kept, change, 0.0)
    if n < len(change):
        edge = float(np.partition(change.numpy(), n - 1)[n - 1])
    place = ((change < 0) & (change <= edge) if n < len(change) else change < 0).nonzero()[:, 0]
    place = place[change[place].sort(stable=True).indices[:n]]
    return _located(tokens, place), place


def _located(tokens: StepTokens, place: Tensor) -> Tensor:
    """``(n, 2)`` row and position of the tokens that are the policy's ``place``-th over the whole step."""
    ends = tokens.counts.cumsum(0)
    rows = torch.searchsorted(ends, place, right=True)
    ordinal = place - (ends - tokens.counts)[rows]
    positions = [int(tokens.mask[row].nonzero()[nth, 0]) for row, nth in zip(rows, ordinal, strict=True)]
    return torch.stack([rows, torch.tensor(positions, dtype=torch.long)], 1)


def token_records(tokens: StepTokens, n: int) -> list[dict[str, Any]]:
    """The :func:`most_expensive` tokens as JSON objects, one a token, for a side file."""
    if tokens.responses is None:
        return []
    found, place = _costliest(tokens, n)
    records = []
    for (row, position), index in zip(found.tolist(), place.tolist(), strict=True):
        logp, entropy, advantage = (tokens.column(name)[index] for name in FIELDS)
        records.append(
            {
                "uid": tokens.uid[row],
                "row": row,
                "position": position,
                "token": int(tokens.responses[row, position]),
                "log_prob": float(logp),
                "entropy": float(entropy),
                "advantage": float(advantage),
                "change": float(token_change(logp, entropy, advantage)),
            }
        )
    return records


class ChangeTracker:
    """Holds each step's predicted change against the change measured at the next one; the state is JSON.

    Only steps that follow each other directly make a pair. The slope is the effective learning rate: measured nats per
    predicted nats per unit of learning rate.

    Under control, least squares is biased: the noise of the entropy that was measured at step t steers the update whose
    prediction it is, and is in the change from t to t + 1 as well. The prediction of the step before is free of that
    noise, and serves as instrument z: ``slope = cov(z, measured) / cov(z, predicted)`` (Wright 1928; Angrist and
    Imbens 1995), given where z explains enough of the prediction.
    """

    def __init__(self) -> None:
        self.line, self.by_predicted, self.by_measured = RunningLine(), RunningLine(), RunningLine()
        self.last: dict[str, Any] | None = None

    def observe(self, step: int, entropy: float | None, predicted: float | None) -> dict[str, float]:
        """Take one step's token-mean entropy (nats) and predicted change; None where it was not measured.

        Returns:
            ``entropo/dynamics/`` ``measured_change`` (this entropy less the step before's), ``pairs``,
            ``correlation``, ``slope`` and ``slope_in_loop`` (least squares) over the run so far; a value that is not
            yet defined is left out.
        """
        entropy, predicted, last = _finite(entropy), _finite(predicted), self.last
        if last is not None and step != last["step"] + 1:
            last = None
        before = None if last is None else last["predicted"]
        self.last = None
        if entropy is not None:
            self.last = {"step": step, "entropy": entropy, "predicted": predicted, "before": before}
        if entropy is None or last is None:
            return self._agreement()
        change = entropy - last["entropy"]
        self._add(last["before"], last["predicted"], change)
        return {names.DYNAMICS_MEASURED_CHANGE: change} | self._agreement()

    def _add(self, before: float | None, predicted: float | None, measured: float) -> None:
        if predicted is not None:
            self.line.add(predicted, measured)
            if before is not None:
                self.by_predicted.add(before, predicted)
                self.by_measured.add(before, measured)

    @property
    def slope(self) -> float | None:
        """The instrumented slope; None while the predictions do not follow from the ones before."""
        r, n = self.by_predicted.correlation, self.by_predicted.n
        if r is None or n < 3 or r * r * (n - 2) < LEAST_F * (1 - r * r):
            return None
        return self.by_measured.xy / self.by_predicted.xy

    def _agreement(self) -> dict[str, float]:
        fitted = {
            names.DYNAMICS_CORRELATION: self.line.correlation,
            names.DYNAMICS_SLOPE: self.slope,
            names.DYNAMICS_SLOPE_IN_LOOP: self.line.slope,
        }
        pairs = {names.DYNAMICS_PAIRS: float(self.line.n)}
        return pairs | {name: value for name, value in fitted.items() if value is not None}

    def state_dict(self) -> dict[str, Any]:
        """State as plain JSON values."""
        lines = {name: getattr(self, name).state_dict() for name in LINES}
        return lines | {"last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off."""
        for name in LINES:
            getattr(self, name).load_state_dict(state[name])
        last = state["last"]
        self.last = last and {
            "step": int(last["step"]),
            "entropy": float(last["entropy"]),
            "predicted": _float(last["predicted"]),
            "before": _float(last["before"]),
        }


LINES = ("line", "by_predicted", "by_measured")


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) <= LARGEST else None
