"""Whether the numbers are good enough to steer by: rounding, and mismatch between rollout and trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from entropo_plugin import metric_names as names
from entropo_plugin.monitor.statistics import share
from entropo_plugin.monitor.tokens import StepTokens

KEY = "actor_rollout_ref.actor.entropy_from_logits_with_chunking"
PACKED = "actor_rollout_ref.model.use_remove_padding"
# Error of one token's entropy against fp64 on logits that nothing rounded, nats rms, vocabulary of 152k, by dtype of
# the logits and of the maths. It grows with the logits: measured .05 to .13 and .01 to .033 for the first two with
# logits up to 22 and 53 (tests/benchmarks/precision.py).
ENTROPY_ERROR = {
    ("bfloat16", "bfloat16"): 0.074,
    ("bfloat16", "float32"): 0.036,
    ("float16", "float32"): 0.0045,
    ("float32", "float32"): 6e-4,
}
# Share of values on the bf16 grid above which they were rounded to it: 1.000 when they were; when not, at most .02 of
# sampled tokens and .16 of tokens 17 nats below the likeliest (tests/benchmarks/precision.py; .41 was seen elsewhere).
ROUNDED = 0.9
# An error above this share of the mean entropy is worth a warning.
TOLERATED = 0.05
# fp32 log-probs are differences of logits, multiples of about 2^-19: smaller ones fall on the bf16 grid by chance.
LEAST_MAGNITUDE = 0.01


@dataclass(frozen=True)
class PrecisionReport:
    """Metrics of one step, the dtypes as they arrived, and one warning text or None."""

    metrics: dict[str, float] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    warning: str | None = None


def precision_report(
    tokens: StepTokens,
    logits: str | None = None,
    chunked: bool = False,
    clip: tuple[float, float] | None = (0.2, 0.2),
) -> PrecisionReport:
    """Everything this module knows about one step.

    Args:
        tokens: the step's fields.
        logits: dtype name of the trainer's logits, as ``bfloat16``; None if the host does not know it.
        chunked: whether the key :data:`KEY` is set, which does the maths in fp32.
        clip: bounds of the policy loss in force, ``r`` in ``[1 - low, 1 + high]``; None where none clips.
    """
    metrics = grid_metrics(tokens) | mismatch_metrics(tokens, clip)
    error = None if logits is None else entropy_error(logits, "float32" if chunked else logits)
    if error is not None:
        metrics[names.PRECISION_ENTROPY_ERROR_RMS] = error
    fields = {"old_log_probs": tokens.old_log_probs, "entropy": tokens.entropy, "rollout": tokens.rollout_log_probs}
    dtypes = {name: dtype_name(value) for name, value in fields.items() if value is not None}
    return PrecisionReport(metrics, dtypes, _warning(tokens, metrics, logits, chunked))


def entropy_error(logits: str, maths: str) -> float | None:
    """Expected error of one token's entropy in nats rms, or None for a combination that was not measured."""
    return ENTROPY_ERROR.get((logits, maths))


def dtype_name(values: Tensor) -> str:
    """``float32`` for ``torch.float32``."""
    return str(values.dtype).removeprefix("torch.")


def bf16_share(values: Tensor) -> float | None:
    """Share of the values beyond 0.01 that bf16 represents exactly; None without any.

    1 when they were computed or kept in bf16 at some point, whatever their dtype is now. When not, at most .02 of the
    tokens that the policy samples; more of tokens that another policy wrote, many nats below the likeliest, because the
    difference of two bf16 logits often is a bf16 number.
    """
    single = values.float()
    size = single.abs()
    large = (size > LEAST_MAGNITUDE) & (size < math.inf)
    count = int(np.count_nonzero(large.numpy()))
    exact = large & (single.bfloat16().float() == single)
    return int(np.count_nonzero(exact.numpy())) / count if count else None


def grid_metrics(tokens: StepTokens) -> dict[str, float]:
    """``entropo/precision/`` ``logp_bf16_share`` and ``entropy_bf16_share``: see :func:`bf16_share`."""
    fields = {names.PRECISION_LOGP_BF16_SHARE: "old_log_probs", names.PRECISION_ENTROPY_BF16_SHARE: "entropy"}
    present = {name: field for name, field in fields.items() if getattr(tokens, field) is not None}
    shares = {name: bf16_share(tokens.column(field)) for name, field in present.items()}
    return {name: share for name, share in shares.items() if share is not None}


def mismatch_metrics(tokens: StepTokens, clip: tuple[float, float] | None = (0.2, 0.2)) -> dict[str, float]:
    """How far the trainer's log-probs are from the rollout engine's for the same weights and tokens.

    With ``d = log pi_old - log pi_rollout`` (clamped to +-20) and tokens drawn from pi_rollout: ``entropo/mismatch/``

    - ``abs_mean``, ``abs_max``: of ``|d|``, nats
    - ``k1 = mean(-d)``, ``k3 = mean(e^d - 1 - d)``: estimators of KL(rollout || old), nats (Schulman,
      joschu.net/blog/kl-approx.html)
    - ``ratio_bias = mean(e^d) - 1``: 0 in expectation when both are normalised over the same tokens
    - ``clip_low_share``, ``clip_high_share``: tokens whose ``e^d`` alone lies outside the clip bounds; left out without

    A log-prob of -inf is one of -1e4 here: d is clamped.
    """
    if tokens.rollout_log_probs is None:
        return {}
    old, rollout = tokens.flat("old_log_probs", "rollout_log_probs", impossible=True)
    if not len(old):
        return {}
    d = (old - rollout).clamp(-20, 20)
    excess, size = torch.expm1(d), d.abs()
    metrics = {
        names.MISMATCH_ABS_MEAN: float(size.mean()),
        names.MISMATCH_ABS_MAX: float(size.max()),
        names.MISMATCH_K1: -float(d.mean()),
        names.MISMATCH_K3: float((excess - d).mean()),
        names.MISMATCH_RATIO_BIAS: float(excess.mean()),
    }
    if clip is not None:
        low, high = clip
        metrics[names.MISMATCH_CLIP_LOW_SHARE] = share(excess < -low)
        metrics[names.MISMATCH_CLIP_HIGH_SHARE] = share(excess > high)
    return metrics


def _warning(tokens: StepTokens, metrics: dict[str, float], logits: str | None, chunked: bool) -> str | None:
    """Why the entropy is too coarse beside its own mean, and what to set; None when it is not, or nothing is known."""
    rounded = metrics.get(names.PRECISION_ENTROPY_BF16_SHARE, 0.0) > ROUNDED
    if tokens.entropy is None or not (rounded or (logits == "bfloat16" and not chunked)):
        return None
    (entropy,) = tokens.flat("entropy")
    rough, remaining = ENTROPY_ERROR["bfloat16", "bfloat16"], ENTROPY_ERROR["bfloat16", "float32"]
    if not len(entropy) or rough < TOLERATED * float(entropy.mean()):
        return None
    remedy = (
        f"{KEY} is set but this path of the trainer ignores it." if chunked else f"Set {KEY}=true, and {PACKED}=true."
    )
    return (
        f"Entropy is computed in bf16: one token's is off by about {rough} nats rms, beside a mean of "
        f"{float(entropy.mean()):.3g}. In fp32 about {remaining} remain, which the bf16 logits leave. {remedy}"
    )
