"""Exact statistics of one global step, from its tokens: floats under ``entropo/``, all sums in fp64.

A metric whose field is missing, or that has no token to look at, is left out: never NaN, never a made-up 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from entropo_plugin.monitor.samples import diversity_metrics, pass_metrics
from entropo_plugin.monitor.tokens import StepTokens

# Below this entropy a state leaves the policy no choice: its likeliest token has more than 99.8 %.
PEAKED = 0.01
ENTROPY_LEVELS = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
# EM (arXiv 2505.22617) publishes a 7B model's covariance for the tokens above these levels.
COVARIANCE_LEVELS = {"q50": 0.5, "q98": 0.98, "q99_8": 0.998, "q99_98": 0.9998}


def step_metrics(tokens: StepTokens, threshold: float = 0.5) -> dict[str, float]:
    """Every statistic of one step; docs/metrics.md says what each means.

    Args:
        tokens: the step's fields.
        threshold: a response is right when its score exceeds it.
    """
    found = token_metrics(tokens)
    found |= entropy_metrics(tokens)
    found |= group_entropy_metrics(tokens, threshold)
    found |= position_metrics(tokens)
    found |= moment_metrics(tokens)
    found |= covariance_metrics(tokens)
    found |= diversity_metrics(tokens, threshold)
    found |= pass_metrics(tokens, threshold)
    return found


def token_metrics(tokens: StepTokens) -> dict[str, float]:
    """``entropo/tokens/`` ``count``, ``nonfinite_share``: those with a NaN or an infinity in any field, and
    ``truncated_share`` of the responses.

    Each other metric leaves out the tokens at which one of its own fields is not finite.
    """
    names = ("old_log_probs", "entropy", "rollout_log_probs", "advantages")
    fine = tokens.keep(*(name for name in names if getattr(tokens, name) is not None))
    count = int(tokens.counts.sum())
    found = {"entropo/tokens/count": float(count)}
    if tokens.truncated is not None and len(tokens.truncated):
        found["entropo/tokens/truncated_share"] = float(tokens.truncated.double().mean())
    if count:
        found["entropo/tokens/nonfinite_share"] = 0.0 if fine is None else 1 - int(fine.sum()) / count
    return found


def entropy_metrics(tokens: StepTokens) -> dict[str, float]:
    """Token mean, quantiles and peaked share of the exact entropy, and its estimate from the sampled tokens.

    ``H = -sum_a p log p`` in nats per token; the estimate is ``-mean log p(a)`` over the sampled a, the logarithm of
    the perplexity: unbiased, but only when sampling used pi_old itself (temperature as trained, no top-p or top-k).
    """
    found = {}
    (logp,) = tokens.flat("old_log_probs")
    if len(logp):
        found["entropo/entropy/sampled_estimate"] = -float(logp.mean())
    if tokens.entropy is None:
        return found
    (entropy,) = tokens.flat("entropy")
    if not len(entropy):
        return found
    found["entropo/entropy/token_mean"] = float(entropy.mean())
    found["entropo/entropy/peaked_share"] = share(entropy < PEAKED)
    return found | quantiles(entropy, ENTROPY_LEVELS, "entropo/entropy/")


def group_entropy_metrics(tokens: StepTokens, threshold: float = 0.5) -> dict[str, float]:
    """``entropo/entropy/`` ``right``, ``wrong``, ``truncated``: token-mean entropy over those responses' tokens."""
    if tokens.entropy is None:
        return {}
    ends = tokens.counts.cumsum(0).numpy()
    row_sum, row_count = map(torch.from_numpy, _between(tokens, ends - tokens.counts.numpy(), ends))
    right = tokens.right(threshold)
    groups = {"right": right, "wrong": None if right is None else ~right, "truncated": tokens.truncated}
    found = {}
    for name, rows in groups.items():
        if rows is not None and (count := int(row_count[rows.bool()].sum())):
            found[f"entropo/entropy/{name}"] = float(row_sum[rows.bool()].sum()) / count
    return found


def position_metrics(tokens: StepTokens) -> dict[str, float]:
    """``entropo/entropy/decile_1`` (start) to ``decile_10`` (end): token-mean entropy by place in the response.

    Token j of a response with n tokens of the policy, j from 0, lies in decile ``floor(10 j / n) + 1``.
    """
    if tokens.entropy is None:
        return {}
    counts = tokens.counts.numpy()
    # the first token of decile d is the first j with floor(10 j / n) >= d
    places = -(-np.arange(11) * counts[:, None] // 10)
    edges = (counts.cumsum() - counts)[:, None] + places
    weight, count = (part.sum(0) for part in _between(tokens, edges[:, :-1], edges[:, 1:]))
    return {f"entropo/entropy/decile_{i + 1}": float(weight[i] / count[i]) for i in range(10) if count[i]}


def _between(tokens: StepTokens, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the readable entropies of the policy's tokens ``[start, end)``, and how many there are."""
    kept, entropy = tokens.keep("entropy"), tokens.column("entropy")
    weight = _before(entropy if kept is None else torch.where(kept, entropy, 0.0))
    count = np.arange(len(weight)) if kept is None else _before(kept.long())
    return weight[end] - weight[start], count[end] - count[start]


def _before(values: Tensor) -> np.ndarray:
    """``(n + 1,)``: the sum of the first i values."""
    return np.concatenate([[0], values.numpy().cumsum()])


def moment_metrics(tokens: StepTokens) -> dict[str, float]:
    """Moments over tokens: ``entropo/logp/`` ``std``, ``skew``; ``entropo/advantage/`` ``mean``, ``std``, and shares.

    Population moments (divided by the number of tokens); the mean log-prob is minus ``entropy/sampled_estimate``.
    """
    found = {}
    (logp,) = tokens.flat("old_log_probs")
    if len(logp):
        centred = logp - logp.mean()
        square = centred * centred
        variance = float(square.mean())
        found["entropo/logp/std"] = variance**0.5
        found["entropo/logp/skew"] = float(square.dot(centred)) / len(logp) / variance**1.5 if variance > 1e-24 else 0.0
    return found | _advantage_moments(tokens)


def _advantage_moments(tokens: StepTokens) -> dict[str, float]:
    if tokens.advantages is None:
        return {}
    (advantage,) = tokens.flat("advantages")
    if not len(advantage):
        return {}
    return {
        "entropo/advantage/mean": float(advantage.mean()),
        "entropo/advantage/std": float(advantage.std(correction=0)),
        "entropo/advantage/abs_mean": float(advantage.abs().mean()),
        "entropo/advantage/positive_share": share(advantage > 0),
        "entropo/advantage/zero_share": share(advantage == 0),
    }


def covariance_metrics(tokens: StepTokens) -> dict[str, float]:
    """Mean and quantiles of ``(log p - mean log p) * (A - mean A)``, both means over all tokens of the step.

    EM (arXiv 2505.22617) equation 10; its mean is the covariance that drives entropy down. In nats times the unit of A.
    """
    if tokens.advantages is None:
        return {}
    logp, advantage = tokens.flat("old_log_probs", "advantages")
    if not len(logp):
        return {}
    product = (logp - logp.mean()) * (advantage - advantage.mean())
    return {"entropo/cov/mean": float(product.mean())} | quantiles(product, COVARIANCE_LEVELS, "entropo/cov/")


def share(marked: Tensor) -> float:
    """Share of ``(tokens,)`` booleans that are True; there is at least one token."""
    return int(np.count_nonzero(marked.numpy())) / len(marked)


def quantiles(values: Tensor, levels: dict[str, float], prefix: str) -> dict[str, float]:
    """Quantiles of ``(tokens,)`` values, to fp32's precision, at the named levels; linear between order statistics."""
    # one sort in fp32: numpy's own quantile takes twenty times as long at half a million tokens
    ordered = np.sort(values.float().numpy())
    place = np.array(list(levels.values())) * (len(ordered) - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, len(ordered) - 1)
    low, high = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    found = low + (place - below) * (high - low)
    return {f"{prefix}{name}": float(value) for name, value in zip(levels, found, strict=True)}
