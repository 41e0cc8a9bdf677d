"""Exact statistics of one global step, from its tokens: floats under ``entropo/``, all sums in fp64.

A metric whose field is missing, or that has no token to look at, is left out: never NaN, never a made-up 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from entropo_plugin.monitor.samples import diversity_metrics, pass_metrics
from entropo_plugin.monitor.tokens import StepTokens, flat, readable

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
    mask = tokens.mask
    optional = (tokens.entropy, tokens.rollout_log_probs, tokens.advantages)
    fine = readable(mask, tokens.old_log_probs, *(each for each in optional if each is not None))
    count = int(mask.sum())
    found = {"entropo/tokens/count": float(count)}
    if tokens.truncated is not None and len(tokens.truncated):
        found["entropo/tokens/truncated_share"] = float(tokens.truncated.double().mean())
    if count:
        found["entropo/tokens/nonfinite_share"] = 1 - int(fine.sum()) / count
    return found


def entropy_metrics(tokens: StepTokens) -> dict[str, float]:
    """Token mean, quantiles and peaked share of the exact entropy, and its estimate from the sampled tokens.

    ``H = -sum_a p log p`` in nats per token; the estimate is ``-mean log p(a)`` over the sampled a, the logarithm of
    the perplexity: unbiased, but only when sampling used pi_old itself (temperature as trained, no top-p or top-k).
    """
    found = {}
    (logp,) = flat(tokens.mask, tokens.old_log_probs)
    if len(logp):
        found["entropo/entropy/sampled_estimate"] = -float(logp.mean())
    if tokens.entropy is None:
        return found
    (entropy,) = flat(tokens.mask, tokens.entropy)
    if not len(entropy):
        return found
    found["entropo/entropy/token_mean"] = float(entropy.mean())
    found["entropo/entropy/peaked_share"] = float((entropy < PEAKED).double().mean())
    return found | quantiles(entropy, ENTROPY_LEVELS, "entropo/entropy/")


def group_entropy_metrics(tokens: StepTokens, threshold: float = 0.5) -> dict[str, float]:
    """``entropo/entropy/`` ``right``, ``wrong``, ``truncated``: token-mean entropy over those responses' tokens."""
    if tokens.entropy is None:
        return {}
    keep = readable(tokens.mask, tokens.entropy)
    row_sum = torch.where(keep, tokens.entropy, torch.zeros_like(tokens.entropy)).double().sum(1)
    row_count = keep.sum(1)
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
    mask = tokens.mask
    keep = readable(mask, tokens.entropy)
    place = mask.cumsum(1, dtype=torch.int32) - 1
    decile = (10 * place).div(mask.sum(1, keepdim=True, dtype=torch.int32).clamp(min=1), rounding_mode="floor")
    chosen = decile[keep]
    count = torch.bincount(chosen, minlength=10)
    weight = torch.bincount(chosen, weights=tokens.entropy[keep].double(), minlength=10)
    return {f"entropo/entropy/decile_{i + 1}": float(weight[i] / count[i]) for i in range(10) if count[i]}


def moment_metrics(tokens: StepTokens) -> dict[str, float]:
    """Moments over tokens: ``entropo/logp/`` ``std``, ``skew``; ``entropo/advantage/`` ``mean``, ``std``, and shares.

    Population moments (divided by the number of tokens); the mean log-prob is minus ``entropy/sampled_estimate``.
    """
    found = {}
    (logp,) = flat(tokens.mask, tokens.old_log_probs)
    if len(logp):
        centred = logp - logp.mean()
        variance = float((centred**2).mean())
        found["entropo/logp/std"] = variance**0.5
        found["entropo/logp/skew"] = float((centred**3).mean()) / variance**1.5 if variance > 1e-24 else 0.0
    return found | _advantage_moments(tokens)


def _advantage_moments(tokens: StepTokens) -> dict[str, float]:
    if tokens.advantages is None:
        return {}
    (advantage,) = flat(tokens.mask, tokens.advantages)
    if not len(advantage):
        return {}
    return {
        "entropo/advantage/mean": float(advantage.mean()),
        "entropo/advantage/std": float(advantage.std(correction=0)),
        "entropo/advantage/abs_mean": float(advantage.abs().mean()),
        "entropo/advantage/positive_share": float((advantage > 0).double().mean()),
        "entropo/advantage/zero_share": float((advantage == 0).double().mean()),
    }


def covariance_metrics(tokens: StepTokens) -> dict[str, float]:
    """Mean and quantiles of ``(log p - mean log p) * (A - mean A)``, both means over all tokens of the step.

    EM (arXiv 2505.22617) equation 10; its mean is the covariance that drives entropy down. In nats times the unit of A.
    """
    if tokens.advantages is None:
        return {}
    logp, advantage = flat(tokens.mask, tokens.old_log_probs, tokens.advantages)
    if not len(logp):
        return {}
    product = (logp - logp.mean()) * (advantage - advantage.mean())
    return {"entropo/cov/mean": float(product.mean())} | quantiles(product, COVARIANCE_LEVELS, "entropo/cov/")


def quantiles(values: Tensor, levels: dict[str, float], prefix: str) -> dict[str, float]:
    """Quantiles of ``(tokens,)`` values at the named levels, linear between order statistics."""
    found = np.quantile(values.numpy(), list(levels.values()))
    return {f"{prefix}{name}": float(value) for name, value in zip(levels, found, strict=True)}
