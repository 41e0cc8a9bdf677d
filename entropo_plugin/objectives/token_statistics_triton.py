"""Token statistics as Triton kernels, which read the logits once from a GPU's memory: once more for the gradient.

Imported by :mod:`entropo_plugin.objectives.token_statistics` where Triton is installed and the logits are on a GPU. The
equations are that module's.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = tl.constexpr(2048)
# as in token_statistics: exp of it is 0 in fp32, and its product with 0 is 0
LOWEST = tl.constexpr(-104.0)
# below every logit but -inf; a difference of two of it is 0 and no NaN
BOTTOM = tl.constexpr(-3.4028234663852886e38)
WARPS = 8


def statistics(logits: Tensor, chosen: Tensor) -> Tensor:
    """``(5, rows)`` fp32: ``log sum exp z``, log-prob, entropy, collision and second moment of each row.

    Args:
        logits: ``(rows, vocabulary)`` in bf16, fp16 or fp32.
        chosen: ``(rows, 1)``, the logits of the tokens whose log-probs are wanted.
    """
    logits, (count, vocabulary) = _rows(logits), logits.shape
    made = logits.new_empty((5, count), dtype=chosen.float().dtype)
    if count:
        _statistics[(count,)](logits, chosen, made, count, vocabulary, logits.stride(0), num_warps=WARPS)
    return made


def slope(logits: Tensor, tokens: Tensor, log_total: Tensor, factors: Tensor) -> Tensor:
    """``(rows, vocabulary)``, the gradient in the logits' dtype.

    Args:
        logits: ``(rows, vocabulary)`` in bf16, fp16 or fp32.
        tokens: ``(rows,)`` int64.
        log_total: ``(rows,)`` fp32, ``log sum exp z``.
        factors: ``(5, rows)`` fp32: a, b, c and e of ``p (a + b log p + c (log p)^2 + e p)``, and what the chosen token
            has beside it.
    """
    logits, (count, vocabulary) = _rows(logits), logits.shape
    made = logits.new_empty((count, vocabulary))
    if made.numel():
        blocks = triton.cdiv(vocabulary, BLOCK.value)
        arguments = (logits, tokens, log_total, factors.contiguous(), made, count, vocabulary, logits.stride(0))
        _slope[(count, blocks)](*arguments, num_warps=WARPS)
    return made


def _rows(logits: Tensor) -> Tensor:
    """With every row's logits side by side."""
    return logits if logits.stride(1) == 1 else logits.contiguous()


@triton.jit
def _statistics(logits, chosen, made, count, vocabulary, stride):
    """One row: sums about the largest logit so far, moved whenever a larger one appears.

    With ``delta = m_old - m_new``: ``s <- e^delta s``, ``t <- e^delta (t + delta s)``,
    ``q <- e^delta (q + 2 delta t + delta^2 s)`` and, of the squares, ``c <- e^(2 delta) c``. Each of a block's places
    has sums of its own, so that none adds more than ``vocabulary / BLOCK`` numbers one after the other.
    """
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    top = tl.full((), BOTTOM, tl.float32)
    s = tl.zeros((BLOCK,), tl.float32)
    t, q, c = s, s, s
    for start in range(0, vocabulary, BLOCK):
        at = start + places
        z = tl.load(logits + row * stride + at, mask=at < vocabulary, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(top, tl.max(z, 0))
        delta = _floored(top - higher)
        scale = tl.exp(delta)
        q = scale * (q + delta * (2 * t + delta * s))
        t = scale * (t + delta * s)
        s, c, top = scale * s, scale * scale * c, higher
        d = _floored(z - top)
        weight = tl.exp(d)
        s, t, q, c = s + weight, t + weight * d, q + weight * d * d, c + weight * weight
    total = tl.sum(s, 0)
    first, second, collision = tl.sum(t, 0) / total, tl.sum(q, 0) / total, tl.sum(c, 0) / (total * total)
    log_s = tl.log(total)
    log_prob = tl.load(chosen + row).to(tl.float32) - top - log_s
    tl.store(made + row, top + log_s)
    tl.store(made + count + row, log_prob)
    tl.store(made + 2 * count + row, log_s - first)
    tl.store(made + 3 * count + row, collision)
    tl.store(made + 4 * count + row, second - 2 * first * log_s + log_s * log_s)


@triton.jit
def _slope(logits, tokens, log_total, factors, made, count, vocabulary, stride):
    """One block of one row."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    z = tl.load(logits + row * stride + at, mask=at < vocabulary, other=-float("inf")).to(tl.float32)
    log_prob = _floored(z - tl.load(log_total + row))
    prob = tl.exp(log_prob)
    a, b = tl.load(factors + row), tl.load(factors + count + row)
    c, e = tl.load(factors + 2 * count + row), tl.load(factors + 3 * count + row)
    value = prob * (a + log_prob * (b + log_prob * c) + e * prob)
    value += tl.where(at == tl.load(tokens + row), tl.load(factors + 4 * count + row), 0.0)
    tl.store(made + row * vocabulary + at, value.to(made.dtype.element_ty), mask=at < vocabulary)


@triton.jit
def _floored(value):
    """A NaN stays one, which ``tl.maximum`` would hide."""
    return tl.where(value < LOWEST, LOWEST, value)
