"""What the responses to one prompt have in common: diversity, pass@k, and the entropy of the right answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import comb

from torch import Tensor

from entropo_plugin import metric_names as names
from entropo_plugin.monitor.rewards import equal_groups
from entropo_plugin.monitor.tokens import StepTokens


@dataclass(frozen=True)
class Sampled:
    """What a host sampled for a step and did not hand to it: a batch from which prompts were filtered is no sample.

    Attributes:
        equal: score -> number of filtered prompts all of whose responses have that score; None where it is not known.
        surplus: prompts with different scores that the host sampled beyond what it needed and threw away unread; it
            did not choose them by their scores, so that each counts as a kept prompt does.
        responses: responses to each filtered prompt.
    """

    equal: Mapping[float, int] | None = field(default_factory=dict)
    surplus: int = 0
    responses: int = 1

    def prompts(self, kept: int) -> int:
        """Number of prompts sampled in all."""
        return kept + self.surplus + sum((self.equal or {}).values())

    def solved(self, threshold: float) -> tuple[int, int]:
        """Number of filtered prompts, and of those with right responses alone."""
        equal = self.equal or {}
        return sum(equal.values()), sum(count for score, count in equal.items() if score > threshold)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased probability that at least one of ``k`` samples is right: ``1 - C(n - c, k) / C(n, k)``.

    Chen et al. 2021 (arXiv 2107.03374), equation 1, in integers: exact at every size, rounded once.

    Args:
        n: samples drawn for the prompt, at least ``k``.
        right: how many of them are right, ``c``.
        k: samples allowed, at least 1.
    """
    if not (1 <= k <= n and 0 <= right <= n):
        raise ValueError(f"pass_at_k(n={n}, right={right}, k={k}): expected 1 <= k <= n and 0 <= right <= n.")
    ways = comb(n, k)
    return (ways - comb(n - right, k)) / ways


def powers(n: int) -> list[int]:
    """The ``k`` that are reported for groups of ``n``: 1, 2, 4, ... and ``n`` itself."""
    return [k for k in (2**i for i in range(n.bit_length())) if k < n] + [n]


def pass_metrics(tokens: StepTokens, threshold: float = 0.5, sampled: Sampled | None = None) -> dict[str, float]:
    """``entropo/pass_at/K``: pass@K averaged over the sampled prompts that have at least K responses.

    With groups of different sizes, a K above the smallest size is an average over fewer prompts. Empty where prompts
    were filtered and their scores are not known.
    """
    right = tokens.right(threshold)
    if right is None or not tokens.uid or (sampled is not None and sampled.equal is None):
        return {}
    marks = right.tolist()
    counts = [(len(last), sum(marks[row] for row in last)) for last in tokens.prompts]
    metrics = {}
    for k in powers(max(n for n, _ in counts)):
        kept = [pass_at_k(n, c, k) for n, c in counts if n >= k]
        metrics[names.pass_at(k)] = _over_all(kept, sampled, threshold, k)
    return metrics


def _over_all(kept: list[float], sampled: Sampled | None, threshold: float, k: int) -> float:
    """Mean over the kept prompts, those that count as they do, and the filtered ones, whose value is 1 or 0."""
    if sampled is None or sampled.responses < k:
        return _mean(kept)
    _, solved = sampled.solved(threshold)
    return (_mean(kept) * (len(kept) + sampled.surplus) + solved) / sampled.prompts(len(kept))


def diversity_metrics(tokens: StepTokens, threshold: float = 0.5, sampled: Sampled | None = None) -> dict[str, float]:
    """Responses per prompt, how many of them differ, and how many right ones differ, averaged over prompts.

    Keys: ``entropo/diversity/`` ``group_size``, ``distinct``, and with rewards ``distinct_right``, ``mixed_share``
    (prompts with right and wrong responses) and ``equal_share`` (prompts with one score for all responses: a group
    baseline learns nothing from them). What a filtered batch cannot tell of everything sampled stands under
    ``entropo/kept/``.
    """
    if not tokens.uid or tokens.responses is None:
        return {}
    metrics = _distinct(tokens, threshold, sampled is not None)
    if tokens.scores is None or (sampled is not None and sampled.equal is None):
        return metrics
    if sampled is not None:
        metrics[names.KEPT_PROMPT_SHARE] = len(tokens.prompts) / sampled.prompts(len(tokens.prompts))
    return metrics | _prompt_shares(tokens, threshold, sampled or Sampled())


def _prompt_shares(tokens: StepTokens, threshold: float, sampled: Sampled) -> dict[str, float]:
    """Shares of all sampled prompts; the filtered ones have equal scores, the surplus counts as the kept ones do."""
    right = tokens.right(threshold)
    assert right is not None
    marks, kept = right.tolist(), len(tokens.prompts)
    mixed = sum(0 < sum(marks[row] for row in last) < len(last) for last in tokens.prompts)
    filtered, whole = sampled.solved(threshold)[0], sampled.prompts(kept)
    scale = (kept + sampled.surplus) / kept
    return {
        names.DIVERSITY_MIXED_SHARE: mixed * scale / whole,
        names.DIVERSITY_EQUAL_SHARE: (len(equal_groups(tokens)) * scale + filtered) / whole,
    }


def _distinct(tokens: StepTokens, threshold: float, kept: bool) -> dict[str, float]:
    """Group size and numbers of different responses, of the prompts in ``tokens``."""
    assert tokens.responses is not None
    written = _texts(tokens.responses, tokens.response_length)
    size, distinct, distinct_right = (
        (names.KEPT_GROUP_SIZE, names.KEPT_DISTINCT, names.KEPT_DISTINCT_RIGHT)
        if kept
        else (names.DIVERSITY_GROUP_SIZE, names.DIVERSITY_DISTINCT, names.DIVERSITY_DISTINCT_RIGHT)
    )
    metrics = {
        size: _mean([len(last) for last in tokens.prompts]),
        distinct: _mean([len({written[row] for row in last}) for last in tokens.prompts]),
    }
    right = tokens.right(threshold)
    if right is not None:
        marks = right.tolist()
        solved = [{written[row] for row in last if marks[row]} for last in tokens.prompts]
        metrics[distinct_right] = _mean([len(texts) for texts in solved])
    return metrics


def right_entropy_metrics(
    tokens: StepTokens, threshold: float = 0.5, sampled: Sampled | None = None
) -> dict[str, float]:
    """``entropo/entropy/right_answers`` in nats per token, and ``entropo/diversity/right_responses`` that it rests on.

    ``sum (-log p_old(y) + psi(k) - psi(G)) / sum |y|`` over the right responses y, k of the G responses to their
    prompt: the entropy of the policy given that it answers right. psi, the digamma function, makes ``log P(right)``
    unbiased. A prompt without a right response does not enter. Under ``entropo/kept/`` where prompts were filtered.
    """
    right = tokens.right(threshold)
    if right is None or not tokens.uid:
        return {}
    marks, total, written, responses = right.tolist(), 0.0, 0, 0
    surprise, counts = _row_surprise(tokens)
    for last, rows in zip(tokens.prompts, tokens.prompt_rows, strict=True):
        k = sum(marks[row] for row in last)
        total += sum(surprise[row] for row in rows if marks[row]) - k * digamma_gap(k, len(last))
        written += sum(counts[row] for row in rows if marks[row])
        responses += k
    value, number = names.ENTROPY_RIGHT_ANSWERS, names.DIVERSITY_RIGHT_RESPONSES
    if sampled is not None:
        value, number = names.KEPT_RIGHT_ANSWERS, names.KEPT_RIGHT_RESPONSES
    return {number: float(responses)} | ({value: total / written} if written else {})


def digamma_gap(k: int, n: int) -> float:
    """``psi(n) - psi(k) = 1/k + ... + 1/(n - 1)`` for whole numbers ``1 <= k <= n``; 0 where k is 0."""
    return sum(1 / i for i in range(k, n)) if k else 0.0


def _row_surprise(tokens: StepTokens) -> tuple[list[float], list[int]]:
    """Sum of -log p over the readable tokens of each row, and how many there are."""
    kept, logp = tokens.keep("old_log_probs"), tokens.column("old_log_probs")
    logp = logp if kept is None else logp.where(kept, 0.0)
    counts = tokens.counts.tolist()
    readable = counts if kept is None else [int(row.sum()) for row in kept.split(counts)]
    return [-float(row.sum()) for row in logp.split(counts)], readable


def _texts(responses: Tensor, lengths: Tensor) -> list[bytes]:
    ids = responses.numpy()
    return [ids[row, :length].tobytes() for row, length in enumerate(lengths.long().tolist())]


def _mean(values: list[int] | list[float]) -> float:
    return float(sum(values)) / len(values)
