"""One global step's tokens from what verl moved through TransferQueue, and every statistic of them, on the driver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from entropo_plugin.hosts.verl.compat import exact_entropy
from entropo_plugin.hosts.verl.driver.batch_cache import Overheard
from entropo_plugin.hosts.verl.worker.clip_shares import actor_bounds
from entropo_plugin.monitor import StepTokens, precision_report, step_metrics

NEEDED = ("response_mask", "old_log_probs")
OPTIONAL = ("entropy", "rollout_log_probs", "advantages", "rm_scores")


def real_keys(batch: Any) -> list[str]:
    """The batch's rows without those that verl added for divisibility."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


def step_tokens(heard: Overheard, batch: Any) -> StepTokens:
    """The step's real rows as far as verl has moved them: the token ids follow with :func:`with_responses`.

    Args:
        heard: what verl moved.
        batch: verl's metadata of the step: keys and tags in TransferQueue.
    """
    keys = real_keys(batch)
    names = [*NEEDED, *(name for name in OPTIONAL if heard.holds(keys, name))]
    rows = {name: heard.rows(batch, keys, name) for name in names}
    length = torch.tensor([len(row) for row in rows["response_mask"]], dtype=torch.long)
    uid = [str(name) for name in heard.rows(batch, keys, "uid")]
    fields = {name: pad_sequence(each, batch_first=True) if each else torch.zeros(0, 0) for name, each in rows.items()}
    return StepTokens(responses=None, response_length=length, uid=uid, **fields)


def with_responses(tokens: StepTokens, heard: Overheard, batch: Any, limit: int, end: int | None) -> StepTokens:
    """The same step with its token ids, and which responses were cut.

    Args:
        limit: longest allowed response, in tokens.
        end: the end-of-sequence token; a response of ``limit`` tokens without it was truncated.
    """
    rows: list[Tensor] = heard.rows(batch, real_keys(batch), "responses")
    if not rows:
        return tokens
    last = torch.tensor([int(row[-1]) if len(row) else -1 for row in rows])
    cut = (tokens.response_length >= limit) & (last != (-1 if end is None else end))
    return tokens.with_responses(pad_sequence(rows, batch_first=True), cut)


def entropy_sum(heard: Overheard, batch: Any) -> tuple[float, int]:
    """Summed entropy of a batch's response tokens in nats, in fp64, and their number."""
    entropy, mask = (torch.cat(heard.rows(batch, batch.keys, name)) for name in ("entropy", "response_mask"))
    kept = mask.bool()
    return float(torch.masked_select(entropy, kept).sum(dtype=torch.float64)), int(kept.sum())


def measure(tokens: StepTokens, actor: Any) -> tuple[dict[str, float], str | None]:
    """Every statistic of one step (docs/metrics.md says what each means), and a warning about precision or None.

    What predicts the step's change of entropy is not among them: it is needed before, see ``dynamics_metrics``.

    Args:
        tokens: the step's fields.
        actor: verl's ``actor_rollout_ref.actor``, for its clip bounds and its dtypes.
    """
    low, high = actor_bounds(actor)
    # verl's padded path takes no chunks (FSDPEngineWithLMHead.prepare_model_outputs)
    packed = actor.get("use_remove_padding", True)
    chunked = bool(actor.get("entropy_from_logits_with_chunking", False) and packed) or exact_entropy()
    report = precision_report(tokens, logits_dtype(actor), chunked, low, high)
    return step_metrics(tokens) | report.metrics, report.warning


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
