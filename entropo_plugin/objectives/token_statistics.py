"""Log-prob, entropy and two more statistics of next-token distributions, in one reading of the logits.

Logits are the largest tensors of a training step. They are read in blocks of rows that stay in cache and widened block
by block, so that nothing else of their size exists; the backward pass recomputes instead of storing. On a GPU with
Triton two kernels do this, without blocks in memory: :mod:`entropo_plugin.objectives.token_statistics_triton`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Entries of a block of at least one row: half a MB in fp32, for the cache of a CPU core; more to keep a GPU busy.
CPU_BLOCK, GPU_BLOCK = 1 << 17, 1 << 22
# exp of it is 0 in fp32, and unlike -inf, which masks a token, its product with 0 is 0
LOWEST = -104.0


class TokenStatistics(NamedTuple):
    """Of each row's distribution p, ``(rows,)``, in fp32; in fp64 for fp64 logits.

    - ``log_prob``: ``log p_y`` of the given token, nats; -inf where it is masked
    - ``entropy``: ``H = -sum_j p_j log p_j``, nats
    - ``collision``: ``sum_j p_j^2``, the probability that two draws agree
    - ``second_moment``: ``sum_j p_j (log p_j)^2``, nats^2; less ``H^2`` it is the variance of the log-prob
    """

    log_prob: Tensor
    entropy: Tensor
    collision: Tensor
    second_moment: Tensor


def token_statistics(logits: Tensor, tokens: Tensor) -> TokenStatistics:
    """:class:`TokenStatistics` of ``softmax(logits)``, all of them differentiable once.

    With ``m = max z``, ``d = z - m``, ``s = sum exp(d)``, ``t = sum exp(d) d`` and ``q = sum exp(d) d^2``::

        log p_y = d_y - log s            H = log s - t / s
        sum p^2 = sum exp(2 d) / s^2     sum p (log p)^2 = q / s - 2 (t / s) log s + (log s)^2

    Large terms never cancel, as they do in ``logsumexp(z) - sum(p z)``: t is negative, s at least 1.

    Args:
        logits: ``(rows, vocabulary)`` in bf16, fp16, fp32 or fp64; -inf masks a token. A row with NaN or +inf, or all
            of whose tokens are masked, gives NaN.
        tokens: ``(rows,)`` int64, the tokens whose log-probs are wanted.

    Raises:
        ValueError: the shapes do not fit.
    """
    if logits.ndim != 2 or tokens.shape != logits.shape[:1]:
        raise ValueError(
            f"token_statistics: logits have the shape {tuple(logits.shape)} and tokens {tuple(tokens.shape)}, expected "
            "(rows, vocabulary) and (rows,). Flatten the leading dimensions of both."
        )
    return TokenStatistics(*_Statistics.apply(logits, tokens))


class _Statistics(torch.autograd.Function):
    """Saves the logits, which their maker keeps anyway, and four numbers a row."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        chosen = logits.gather(1, tokens[:, None])
        log_total, *statistics = (_by_kernel if _has_kernel(logits) else _by_blocks)(logits, chosen).unbind()
        ctx.save_for_backward(logits, tokens, log_total, *statistics[1:])
        return tuple(statistics)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        logits, tokens, log_total, *values = ctx.saved_tensors
        factors = _slope_factors(*grads, *values)
        if _has_kernel(logits):
            from entropo_plugin.objectives import token_statistics_triton as kernels

            return kernels.slope(logits, tokens, log_total, torch.stack((*factors, grads[0]))), None
        slope = torch.empty_like(logits)
        for rows, log_prob, prob in _blocks(logits):
            log_prob.copy_(logits[rows]).sub_(log_total[rows, None]).clamp_(min=LOWEST)
            torch.exp(log_prob, out=prob)
            slope[rows] = _slope(log_prob, prob, *(each[rows, None] for each in factors))
        return slope.scatter_add_(1, tokens[:, None], grads[0][:, None].to(slope.dtype)), None


def _has_kernel(logits: Tensor) -> bool:
    """Kernels are for a GPU, and compute in fp32."""
    return logits.is_cuda and logits.dtype != torch.float64 and importlib.util.find_spec("triton") is not None


def _by_kernel(logits: Tensor, chosen: Tensor) -> Tensor:
    from entropo_plugin.objectives import token_statistics_triton as kernels

    return kernels.statistics(logits, chosen)


def _by_blocks(logits: Tensor, chosen: Tensor) -> Tensor:
    """``(5, rows)``: ``log sum exp z`` and the four statistics; ``chosen`` ``(rows, 1)`` are the tokens' logits."""
    made = logits.new_empty((5, len(logits)), dtype=_wide(logits))
    for rows, *buffers in _blocks(logits):
        for target, values in zip(made, _of_block(logits[rows], chosen[rows], *buffers), strict=True):
            target[rows] = values
    return made


def _wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _blocks(logits: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Consecutive rows and, used for every block again, two wide buffers of their shape."""
    count, vocabulary = logits.shape
    step = max(1, (CPU_BLOCK if logits.device.type == "cpu" else GPU_BLOCK) // vocabulary)
    first, second = logits.new_empty((2, min(step, count), vocabulary), dtype=_wide(logits))
    for start in range(0, count, step):
        length = min(step, count - start)
        yield slice(start, start + length), first[:length], second[:length]


def _of_block(logits: Tensor, chosen: Tensor, distance: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """``log sum exp z`` and the four statistics of a few rows; ``chosen`` ``(rows, 1)`` are their tokens' logits."""
    top = distance.copy_(logits).amax(1, keepdim=True)
    torch.exp(distance.sub_(top).clamp_(min=LOWEST), out=weight)
    total = weight.sum(1)
    collision = (torch.linalg.vector_norm(weight, dim=1) / total) ** 2
    first = weight.mul_(distance).sum(1) / total
    second = weight.mul_(distance).sum(1) / total
    log_s = total.log()
    log_prob = (chosen.to(top.dtype) - top)[:, 0] - log_s
    return top[:, 0] + log_s, log_prob, log_s - first, collision, second - 2 * first * log_s + log_s**2


def _slope_factors(
    log_prob: Tensor, entropy: Tensor, collision: Tensor, second: Tensor, *values: Tensor
) -> tuple[Tensor, ...]:
    """a, b, c and e of :func:`_slope`, from the gradients of the four statistics and the values of the last three."""
    h, c, m = values
    a = second * (2 * h - m) - log_prob - entropy * h - 2 * collision * c
    return a, 2 * second - entropy, second, 2 * collision


def _slope(log_prob: Tensor, prob: Tensor, a: Tensor, b: Tensor, c: Tensor, e: Tensor) -> Tensor:
    """``p (a + b log p + c (log p)^2 + e p)``, the gradient but for the chosen token's own share."""
    return torch.addcmul(b, log_prob, c).mul_(log_prob).add_(a).addcmul_(prob, e).mul_(prob)
