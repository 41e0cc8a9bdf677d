"""Exact statistics of one global step, from its tokens: floats under ``entropo/``, all sums in fp64.

A metric whose field is missing, or that has no token to look at, is left out: never NaN, never a made-up 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from entropo_plugin import metric_names as names
from entropo_plugin.monitor.rewards import rounding_left
from entropo_plugin.monitor.samples import Sampled, diversity_metrics, pass_metrics, right_entropy_metrics
from entropo_plugin.monitor.tokens import StepTokens

# Below this entropy a state leaves the policy no choice: its likeliest token has more than 99.8 %.
PEAKED = 0.01
ENTROPY_LEVELS = {
    names.ENTROPY_Q05: 0.05,
    names.ENTROPY_Q25: 0.25,
    names.ENTROPY_Q50: 0.5,
    names.ENTROPY_Q75: 0.75,
    names.ENTROPY_Q95: 0.95,
}
# arXiv 2505.22617 publishes a 7B model's covariance for the tokens above these levels.
COVARIANCE_LEVELS = {names.COV_Q50: 0.5, names.COV_Q98: 0.98, names.COV_Q99_8: 0.998, names.COV_Q99_98: 0.9998}


def step_metrics(tokens: StepTokens, threshold: float = 0.5, sampled: Sampled | None = None) -> dict[str, float]:
    """Every statistic of one step; docs/metrics.md says what each means.

    Args:
        tokens: the step's fields.
        threshold: a response is right when its score exceeds it.
        sampled: what the host sampled for this step beside the prompts in ``tokens``; None: nothing.
    """
    metrics = token_metrics(tokens)
    metrics |= entropy_metrics(tokens)
    metrics |= group_entropy_metrics(tokens, threshold)
    metrics |= position_metrics(tokens)
    metrics |= moment_metrics(tokens)
    metrics |= covariance_metrics(tokens)
    metrics |= diversity_metrics(tokens, threshold, sampled)
    metrics |= pass_metrics(tokens, threshold, sampled)
    metrics |= right_entropy_metrics(tokens, threshold, sampled)
    return metrics


def token_metrics(tokens: StepTokens) -> dict[str, float]:
    """``entropo/tokens/`` ``count``, ``nonfinite_share`` and ``truncated_share``, the last of the responses.

    Not finite is a token with a NaN or an infinity in any field.
    Each other metric leaves out the tokens at which one of its own fields is not finite.
    """
    fields = ("old_log_probs", "entropy", "rollout_log_probs", "advantages")
    finite = tokens.keep(*(name for name in fields if getattr(tokens, name) is not None))
    count = int(tokens.counts.sum())
    metrics = {names.TOKENS_COUNT: float(count)}
    if tokens.truncated is not None and len(tokens.truncated):
        metrics[names.TOKENS_TRUNCATED_SHARE] = float(tokens.truncated[tokens.rows.last_rows].double().mean())
    if count:
        metrics[names.TOKENS_NONFINITE_SHARE] = 0.0 if finite is None else 1 - int(finite.sum()) / count
    return metrics


def entropy_metrics(tokens: StepTokens) -> dict[str, float]:
    """Token mean, quantiles and peaked share of the exact entropy, and its estimate from the sampled tokens.

    ``H = -sum_a p log p`` in nats per token; the estimate is ``-mean log p(a)`` over the sampled a, the logarithm of
    the perplexity: unbiased, but only when sampling used pi_old itself (temperature as trained, no top-p or top-k).
    """
    metrics = {}
    (logp,) = tokens.flat("old_log_probs")
    if len(logp):
        metrics[names.ENTROPY_SAMPLED_ESTIMATE] = -float(logp.mean())
    total, count = tokens.entropy_sum()
    if not count:
        return metrics
    (entropy,) = tokens.flat("entropy")
    metrics[names.ENTROPY_TOKEN_MEAN] = total / count
    metrics[names.ENTROPY_PEAKED_SHARE] = share(entropy < PEAKED)
    return metrics | quantiles(entropy, ENTROPY_LEVELS)


def group_entropy_metrics(tokens: StepTokens, threshold: float = 0.5) -> dict[str, float]:
    """``entropo/entropy/`` ``right``, ``wrong``, ``truncated``: token-mean entropy over those responses' tokens."""
    if tokens.entropy is None:
        return {}
    ends = tokens.counts.cumsum(0).numpy()
    row_sum, row_count = map(torch.from_numpy, _Running(tokens).between(ends - tokens.counts.numpy(), ends))
    right = tokens.right(threshold)
    cut = None if tokens.truncated is None else tokens.rows.to_rows(tokens.truncated.bool())
    wrong = None if right is None else ~right
    metrics = {}
    for name, rows in ((names.ENTROPY_RIGHT, right), (names.ENTROPY_WRONG, wrong), (names.ENTROPY_TRUNCATED, cut)):
        if rows is not None and (count := int(row_count[rows].sum())):
            metrics[name] = float(row_sum[rows].sum()) / count
    return metrics


def position_metrics(tokens: StepTokens) -> dict[str, float]:
    """``entropo/entropy/decile_1`` (start) to ``decile_10`` (end): token-mean entropy by place in the response.

    Token j of a response with n tokens of the policy, j from 0, lies in decile ``floor(10 j / n) + 1``.
    """
    if tokens.entropy is None:
        return {}
    counts = np.bincount(tokens.rows.response, tokens.counts.numpy(), len(tokens.rows.last)).astype(np.int64)
    # the first token of decile d is the first j with floor(10 j / n) >= d
    places = -(-np.arange(11) * counts[:, None] // 10)
    edges = (counts.cumsum() - counts)[:, None] + places
    running = _Running(tokens, tokens.rows.order)
    weight, count = (part.sum(0) for part in running.between(edges[:, :-1], edges[:, 1:]))
    return {names.decile(i + 1): float(weight[i] / count[i]) for i in range(10) if count[i]}


class _Running:
    """Running sums of the readable entropies of the policy's tokens.

    Args:
        order: rows in the order in which their tokens are counted; as they stand unless given.
    """

    def __init__(self, tokens: StepTokens, order: list[int] | None = None):
        kept, entropy = tokens.keep("entropy"), tokens.column("entropy")
        entropy = entropy if kept is None else torch.where(kept, entropy, 0.0)
        if order is not None and order != sorted(order):
            lengths = tokens.counts.tolist()
            entropy = _reordered(entropy, lengths, order)
            kept = None if kept is None else _reordered(kept, lengths, order)
        self.weight = _before(entropy)
        self.count = np.arange(len(self.weight)) if kept is None else _before(kept.long())

    def between(self, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the tokens ``[start, end)``, and how many there are."""
        return self.weight[end] - self.weight[start], self.count[end] - self.count[start]


def _reordered(values: Tensor, lengths: list[int], order: list[int]) -> Tensor:
    rows = values.split(lengths)
    return torch.cat([rows[row] for row in order])


def _before(values: Tensor) -> np.ndarray:
    """``(n + 1,)``: the sum of the first i values."""
    return np.concatenate([[0], values.numpy().cumsum()])


def moment_metrics(tokens: StepTokens) -> dict[str, float]:
    """Moments over tokens: ``entropo/logp/`` ``std``, ``skew``; ``entropo/advantage/`` ``mean``, ``std``, and shares.

    Population moments (divided by the number of tokens); the mean log-prob is minus ``entropy/sampled_estimate``.
    """
    metrics = {}
    (logp,) = tokens.flat("old_log_probs")
    if len(logp):
        centred = logp - logp.mean()
        square = centred * centred
        variance = float(square.mean())
        metrics[names.LOGP_STD] = variance**0.5
        third = float(square.dot(centred)) / len(logp)
        metrics[names.LOGP_SKEW] = third / variance**1.5 if variance > 1e-24 else 0.0
    return metrics | _advantage_moments(tokens)


def _advantage_moments(tokens: StepTokens) -> dict[str, float]:
    if tokens.advantages is None:
        return {}
    (advantage,) = tokens.flat("advantages")
    if not len(advantage):
        return {}
    return {
        names.ADVANTAGE_MEAN: float(advantage.mean()),
        names.ADVANTAGE_STD: float(advantage.std(correction=0)),
        names.ADVANTAGE_ABS_MEAN: float(advantage.abs().mean()),
        names.ADVANTAGE_POSITIVE_SHARE: share(advantage > 0),
        names.ADVANTAGE_ZERO_SHARE: (int((advantage == 0).sum()) + rounding_left(tokens)) / len(advantage),
    }


def covariance_metrics(tokens: StepTokens) -> dict[str, float]:
    """Mean and quantiles of ``(log p - mean log p) * (A - mean A)``, both means over all tokens of the step.

    arXiv 2505.22617, equation 10; its mean is the covariance that drives entropy down. In nats times the unit of A.
    """
    if tokens.advantages is None:
        return {}
    logp, advantage = tokens.flat("old_log_probs", "advantages")
    if not len(logp):
        return {}
    product = (logp - logp.mean()) * (advantage - advantage.mean())
    return {names.COV_MEAN: float(product.mean())} | quantiles(product, COVARIANCE_LEVELS)


def share(marked: Tensor) -> float:
    """Share of ``(tokens,)`` booleans that are True; there is at least one token."""
    return int(np.count_nonzero(marked.numpy())) / len(marked)


def quantiles(values: Tensor, levels: dict[str, float]) -> dict[str, float]:
    """Quantiles of ``(tokens,)`` values, to fp32's precision, by name; linear between order statistics."""
    # one sort in fp32: numpy's own quantile takes twenty times as long at half a million tokens
    ordered = np.sort(values.float().numpy())
    place = np.array(list(levels.values())) * (len(ordered) - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, len(ordered) - 1)
    low, high = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    quantile = low + (place - below) * (high - low)
    return {name: float(value) for name, value in zip(levels, quantile, strict=True)}
