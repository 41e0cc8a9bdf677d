"""One global step's tokens from verl's TransferQueue, and every statistic of them, on the driver."""

from __future__ import annotations

from typing import Any

import torch
import transfer_queue as tq
from torch import Tensor

from entropo_plugin.host.native import exact_entropy
from entropo_plugin.monitor import StepTokens, dynamics_metrics, precision_report, step_metrics

OPTIONAL = ("entropy", "rollout_log_probs", "advantages", "rm_scores")
NEEDED = ("responses", "response_mask", "old_log_probs", "uid")


def step_tokens(batch: Any, limit: int, end: int | None) -> StepTokens:
    """The step's real rows; verl's padding rows are left out.

    Args:
        batch: verl's metadata of the step: keys and tags in TransferQueue.
        limit: longest allowed response, in tokens.
        end: the end-of-sequence token; a response of ``limit`` tokens without it was truncated.
    """
    nested = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=[*NEEDED, *OPTIONAL])
    real = [row for row, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]
    length = nested["responses"].offsets().diff()[real]
    data = nested.to_padded_tensor()
    uid = list(data["uid"])
    responses = data["responses"][real]
    return StepTokens(
        response_mask=data["response_mask"][real],
        old_log_probs=data["old_log_probs"][real],
        responses=responses,
        response_length=length,
        uid=[str(uid[row]) for row in real],
        truncated=(length >= limit) & (_last(responses, length) != (-1 if end is None else end)),
        **{name: data[name][real] for name in OPTIONAL if name in data},
    )


def _last(responses: Tensor, length: Tensor) -> Tensor:
    """``(batch,)`` last token of each response; -1 where it has none."""
    if not responses.shape[1]:
        return torch.full_like(length, -1)
    found = responses.gather(1, (length - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where(length > 0, found, torch.full_like(found, -1))


def measure(tokens: StepTokens, actor: Any) -> tuple[dict[str, float], str | None]:
    """Every statistic of one step (docs/metrics.md says what each means), and a warning about precision or None.

    Args:
        tokens: the step's fields.
        actor: verl's ``actor_rollout_ref.actor``, for its clip bounds and its dtypes.
    """
    low, high = actor.clip_ratio_low or actor.clip_ratio, actor.clip_ratio_high or actor.clip_ratio
    chunked = bool(actor.get("entropy_from_logits_with_chunking", False)) or exact_entropy()
    report = precision_report(tokens, logits_dtype(actor), chunked, low, high)
    return step_metrics(tokens) | dynamics_metrics(tokens) | report.metrics, report.warning


def logits_dtype(actor: Any) -> str | None:
    """The dtype of the trainer's logits as an FSDP actor is configured; None for other engines."""
    if not str(actor.strategy).startswith("fsdp"):
        return None
    mixed = actor.fsdp_config.get("mixed_precision", None) or {}
    names = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
    return names.get(str(mixed.get("param_dtype", "bf16")))


def validation_score(metrics: dict[str, Any]) -> float | None:
    """Mean over data sources of verl's core validation score, or None in a step without validation."""
    found = [float(value) for name, value in metrics.items() if name.startswith("val-core/") and "/mean@" in name]
    return sum(found) / len(found) if found else None
