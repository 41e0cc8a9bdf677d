"""Prompts whose responses all have the same score, and what rounding makes of their advantages."""

from __future__ import annotations

from entropo_plugin.monitor.tokens import StepTokens

# Scores that differ by less than this share of their size are the same score.
SAME = 1e-6
# verl 0.9.1 divides a group's centred score by its standard deviation plus 1e-6 (core_algos.py,
# compute_grpo_outcome_advantage): of equal rewards r, which fp32 leaves 2^-24 r or so apart from their mean, it makes
# .0074 at .1 and .056 at .7. A quarter of the reward bounds them.
ROUNDING = 0.25


def equal_groups(tokens: StepTokens) -> list[list[int]]:
    """Rows of each prompt with two or more responses whose scores are all the same; empty without rewards."""
    if tokens.scores is None:
        return []
    scores, groups = tokens.scores.tolist(), []
    for last, rows in zip(tokens.prompts, tokens.prompt_rows, strict=True):
        own = [scores[row] for row in last]
        if len(own) > 1 and max(own) - min(own) <= SAME * max(map(abs, own)):
            groups.append(rows)
    return groups


def rounding_left(tokens: StepTokens) -> int:
    """Number of tokens whose advantage would be 0 but for rounding.

    It is not 0, the same for all tokens of a response to a prompt whose scores are equal, and small beside the score.
    What a method or a critic adds differs from token to token, and is not taken for rounding.
    """
    if tokens.advantages is None or tokens.scores is None:
        return 0
    count = 0
    for rows in equal_groups(tokens):
        own = [tokens.advantages[row][tokens.mask[row]].double() for row in rows]
        own = [values[values.isfinite()] for values in own]
        bound = ROUNDING * float(tokens.scores[rows[0]].abs())
        if all(bool((values == values[:1]).all() and (values.abs() <= bound).all()) for values in own):
            count += sum(int((values != 0).sum()) for values in own)
    return count
