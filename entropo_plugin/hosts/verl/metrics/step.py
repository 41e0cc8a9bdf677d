"""One global step's tokens from what verl moved through TransferQueue, and every statistic of them, on the driver."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from entropo_plugin.hosts.verl.compat import exact_entropy
from entropo_plugin.hosts.verl.driver.batch_cache import BatchCache
from entropo_plugin.hosts.verl.worker.clip_shares import actor_bounds, bounds_in_force, loss_mode
from entropo_plugin.monitor import Sampled, Sessions, StepTokens, precision_report, step_metrics

NEEDED = ("response_mask", "old_log_probs")
OPTIONAL = ("entropy", "rollout_log_probs", "advantages", "rm_scores")


def real_keys(batch: Any) -> list[str]:
    """The batch's rows without those that verl added for divisibility."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


def step_tokens(cache: BatchCache, batch: Any) -> StepTokens:
    """The step's real rows as far as verl has moved them: the token ids follow with :func:`with_responses`.

    Args:
        cache: what verl moved.
        batch: verl's metadata of the step: keys and tags in TransferQueue.
    """
    keys = real_keys(batch)
    names = [*NEEDED, *(name for name in OPTIONAL if cache.holds(keys, name))]
    rows = {name: cache.rows(batch, keys, name) for name in names}
    length = torch.tensor([len(row) for row in rows["response_mask"]], dtype=torch.long)
    uid = [str(name) for name in cache.rows(batch, keys, "uid")]
    fields = {name: pad_sequence(each, batch_first=True) if each else torch.zeros(0, 0) for name, each in rows.items()}
    sessions = Sessions.of_keys(keys)
    return StepTokens(responses=None, response_length=length, uid=uid, sessions=sessions, **fields)


def context_limit(rollout: Any) -> int | None:
    """Tokens of prompt and response together at which the engine stops, or None where ``max_model_len`` is not set.

    verl leaves SGLang one token less (workers/rollout/sglang_rollout/async_sglang_server.py).
    """
    longest = rollout.get("max_model_len")
    return None if longest is None else int(longest) - (rollout.get("name") == "sglang")


def with_responses(
    tokens: StepTokens, cache: BatchCache, batch: Any, limit: int, end: int | None, context: int | None = None
) -> StepTokens:
    """The same step with its token ids, and which rows were cut: those that reach a limit without the end token.

    Args:
        limit: longest allowed response, in tokens.
        end: the end-of-sequence token.
        context: longest allowed prompt and response together, see :func:`context_limit`; None: no such limit.
    """
    rows: list[Tensor] = cache.rows(batch, real_keys(batch), "responses")
    if not rows:
        return tokens
    last = torch.tensor([int(row[-1]) if len(row) else -1 for row in rows])
    full = tokens.response_length >= limit
    if context is not None:
        real = [tag for tag in batch.tags if not tag.get("is_padding", False)]
        full |= torch.tensor([tag["seq_len"] for tag in real]) >= context
    cut = full & (last != (-1 if end is None else end))
    return tokens.with_responses(pad_sequence(rows, batch_first=True), cut)


def entropy_sum(cache: BatchCache, batch: Any) -> tuple[float, int]:
    """Summed entropy of a batch's response tokens in nats, in fp64, and their number: those of ``token_mean``.

    Tokens that verl rejects (``algorithm.rollout_correction``) are out once it has computed the advantages.
    """
    return step_tokens(cache, batch).entropy_sum()


def sampled(config: Any, metrics: dict[str, Any]) -> Sampled | None:
    """What verl sampled for the step beside its batch, or None where it filters nothing (``algorithm.filter_groups``).

    verl's replay buffer throws away the prompts whose responses all have one value of ``filter_groups.metric``, and
    reports how many had which. Only for ``metric=reward`` is that value the score.

    Args:
        config: verl's whole configuration.
        metrics: the step's, with what verl's replay buffer left there.
    """
    # verl's V1 trainers, whose import registers ours, which import this module
    from verl.trainer.ppo.v1.replay_buffer import DAPO_FILTERED_REWARD_COUNTS_KEY, FILTER_GROUPS_REWARD_METRIC

    filtering = config.algorithm.get("filter_groups")
    if filtering is None or not filtering.get("enable", False):
        return None
    counts = metrics.get(DAPO_FILTERED_REWARD_COUNTS_KEY) or {}
    known = filtering.get("metric") == FILTER_GROUPS_REWARD_METRIC
    known &= sum(counts.values()) == metrics.get("training/filter_groups/evicted_samples", 0)
    surplus = int(metrics.get("training/filter_groups/discarded_surplus_samples", 0))
    return Sampled(counts if known else None, surplus, config.actor_rollout_ref.rollout.n)


def clip_bounds(actor: Any) -> tuple[float, float] | None:
    """The clip of verl's own policy loss as the actor is configured; None where it clips no token's ratio."""
    if loss_mode(actor) == "cispo":
        # it clips the ratio, and keeps the gradient
        return actor_bounds(actor)
    bounds = None if loss_mode(actor) == "gspo" else bounds_in_force(actor, None)
    return None if bounds is None else (bounds["low"], bounds["high"])


def measure(
    tokens: StepTokens,
    actor: Any,
    clip: tuple[float, float] | Literal["verl"] | None = "verl",
    sampled: Sampled | None = None,
) -> tuple[dict[str, float], str | None]:
    """Every statistic of one step (docs/metrics.md says what each means), and a warning about precision or None.

    What predicts the step's change of entropy is not among them: it is needed before, see ``dynamics_metrics``.

    Args:
        tokens: the step's fields.
        actor: verl's ``actor_rollout_ref.actor``, for its dtypes.
        clip: bounds ``(low, high)`` of the policy loss in force; None where it clips no token's ratio; ``verl``: those
            of verl's own loss, see :func:`clip_bounds`.
        sampled: what verl sampled for the step and filtered out.
    """
    # verl's padded path takes no chunks (FSDPEngineWithLMHead.prepare_model_outputs)
    packed = actor.get("use_remove_padding", True)
    chunked = bool(actor.get("entropy_from_logits_with_chunking", False) and packed) or exact_entropy()
    clip = clip_bounds(actor) if clip == "verl" else clip
    report = precision_report(tokens, logits_dtype(actor), chunked, clip)
    return step_metrics(tokens, sampled=sampled) | report.metrics, report.warning


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
