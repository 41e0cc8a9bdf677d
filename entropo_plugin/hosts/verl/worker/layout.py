"""Between verl's jagged micro-batches and ``(batch, response)`` tensors, without waiting for the device.

verl's own ``no_padding_2_padding`` reads every response's length on the host; here lengths stay where the tensors are,
and the width comes from a tensor's shape.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor


def padded(values: Tensor) -> Tensor:
    """``(batch, response)`` with 0 beyond each response, from a jagged tensor or one that is padded already."""
    return values.to_padded_tensor(0) if values.is_nested else values


def padded_boolean(values: Any, width: int) -> Tensor:
    """``(batch, width)`` boolean from a jagged one; ``to_padded_tensor`` does not know booleans."""
    if not values.is_nested:
        return values.bool()
    offsets = values.offsets()
    return rows_of(values.values().bool(), offsets[:-1], offsets.diff(), width)


def responses_of(output: Any, data: TensorDict, width: int) -> Tensor:
    """``(batch, width)`` values of the response tokens, from what the model gives for every token of the micro-batch.

    The value that belongs to a token stands one place before it, as in verl's ``no_padding_2_padding``.

    Args:
        output: jagged, or ``(tokens,)`` without padding: prompts and responses in turn.
        data: the micro-batch, with ``prompts`` and ``responses``.
        width: of the padded responses.
    """
    flat = output.values() if output.is_nested else output
    prompts, responses = data["prompts"], data["responses"]
    if prompts.is_nested:
        lengths = responses.offsets().diff()
        ends = (prompts.offsets().diff() + lengths).cumsum(0)
    else:
        attended = data["attention_mask"]
        lengths, ends = attended[:, prompts.shape[1] :].sum(1), attended.sum(1).cumsum(0)
    return rows_of(flat, ends - lengths - 1, lengths, width)


def rows_of(flat: Tensor, starts: Tensor, lengths: Tensor, width: int) -> Tensor:
    """``(batch, width)``: row i holds ``flat[starts[i] : starts[i] + lengths[i]]`` and then zeros."""
    place = torch.arange(width, device=flat.device)
    index = (starts[:, None] + place).clamp(0, flat.shape[0] - 1)
    return torch.where(place < lengths[:, None], flat[index], torch.zeros((), dtype=flat.dtype, device=flat.device))
