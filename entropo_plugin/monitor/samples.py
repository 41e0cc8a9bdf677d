"""What the responses to one prompt have in common: diversity, and pass@k."""

from __future__ import annotations

from math import comb

from torch import Tensor

from entropo_plugin.monitor.tokens import StepTokens


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


def by_prompt(tokens: StepTokens) -> list[list[int]]:
    """Rows of the responses of each prompt, prompts in their first order."""
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(tokens.uid):
        groups.setdefault(name, []).append(row)
    return list(groups.values())


def pass_metrics(tokens: StepTokens, threshold: float = 0.5) -> dict[str, float]:
    """``entropo/pass_at/K``: pass@K averaged over the prompts that have at least K responses.

    With groups of different sizes, a K above the smallest size is an average over fewer prompts.
    """
    right = tokens.right(threshold)
    if right is None or not tokens.uid:
        return {}
    marks = right.tolist()
    counts = [(len(rows), sum(marks[row] for row in rows)) for rows in by_prompt(tokens)]
    largest = max(n for n, _ in counts)
    return {f"entropo/pass_at/{k}": _mean([pass_at_k(n, c, k) for n, c in counts if n >= k]) for k in powers(largest)}


def diversity_metrics(tokens: StepTokens, threshold: float = 0.5) -> dict[str, float]:
    """Responses per prompt, how many of them differ, and how many right ones differ, averaged over prompts.

    Keys: ``entropo/diversity/`` ``group_size``, ``distinct``, and with rewards ``distinct_right`` and ``mixed_share``
    (prompts with right and wrong responses: the only ones that a group baseline learns from).
    """
    if not tokens.uid or tokens.responses is None:
        return {}
    groups, written = by_prompt(tokens), _texts(tokens.responses, tokens.response_length)
    found = {
        "entropo/diversity/group_size": _mean([len(rows) for rows in groups]),
        "entropo/diversity/distinct": _mean([len({written[row] for row in rows}) for rows in groups]),
    }
    right = tokens.right(threshold)
    if right is not None:
        marks = right.tolist()
        solved = [[row for row in rows if marks[row]] for rows in groups]
        mixed = [0 < len(some) < len(rows) for some, rows in zip(solved, groups, strict=True)]
        found["entropo/diversity/distinct_right"] = _mean([len({written[row] for row in some}) for some in solved])
        found["entropo/diversity/mixed_share"] = _mean(mixed)
    return found


def _texts(responses: Tensor, lengths: Tensor) -> list[bytes]:
    ids = responses.numpy()
    return [ids[row, :length].tobytes() for row, length in enumerate(lengths.long().tolist())]


def _mean(values: list[int] | list[float] | list[bool]) -> float:
    return float(sum(values)) / len(values)
