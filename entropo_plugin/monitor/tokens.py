"""One global step as the monitor sees it: padded CPU tensors on the driver, and the two ways to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from entropo_plugin.monitor.sessions import Sessions

# A log-prob of -inf is read as this one: its p is exactly 0 in fp64, and 0 times it is 0 instead of NaN.
LOWEST = -1e4
LOG_PROBS = ("old_log_probs", "rollout_log_probs")


@dataclass(frozen=True)
class StepTokens:
    """The fields of one global step, without the host's padding rows and after its rejection of tokens.

    A row is one output. Where the host splits an agent's session into several rows, ``sessions`` says which rows are
    one response; whatever counts responses counts those.

    Whatever lies where ``response_mask`` is off, NaN included, is never read. A field that the host does not have is
    None, and the metrics that need it are left out.

    Attributes:
        response_mask: ``(batch, response)`` 1 where the policy wrote the token.
        old_log_probs: ``(batch, response)`` pi_old's log-probs of the sampled tokens, nats.
        responses: ``(batch, response)`` token ids, or None.
        response_length: ``(batch,)`` tokens of each response before its padding, those of tools included.
        uid: name of each response's prompt, ``batch`` of them.
        entropy: ``(batch, response)`` exact entropy of pi_old at each token's state, nats.
        rollout_log_probs: ``(batch, response)`` log-probs as the rollout engine reports them, nats.
        advantages: ``(batch, response)`` advantages.
        rm_scores: ``(batch, response)`` rewards; a response's score is their sum over its length.
        truncated: ``(batch,)`` True for a row that was cut at a length limit.
        sessions: which rows are one response; None means that each row is its own.
    """

    response_mask: Tensor
    old_log_probs: Tensor
    responses: Tensor | None
    response_length: Tensor
    uid: list[str]
    entropy: Tensor | None = None
    rollout_log_probs: Tensor | None = None
    advantages: Tensor | None = None
    rm_scores: Tensor | None = None
    truncated: Tensor | None = None
    sessions: Sessions | None = None

    def __post_init__(self) -> None:
        shape = self.response_mask.shape
        if len(shape) != 2 or len(self.uid) != shape[0]:
            raise ValueError(
                f"response_mask {tuple(shape)}: expected (batch, response) with batch = {len(self.uid)} uid."
            )
        wide = ("old_log_probs", "responses", "entropy", "rollout_log_probs", "advantages", "rm_scores")
        for names, expected in ((wide, shape), (("response_length", "truncated"), shape[:1])):
            for name in names:
                value = getattr(self, name)
                if value is not None and value.shape != expected:
                    raise ValueError(f"{name} {tuple(value.shape)}: expected {tuple(expected)}, as response_mask.")
        if self.sessions is not None and len(self.sessions.response) != shape[0]:
            raise ValueError(f"sessions of {len(self.sessions.response)} rows: expected {shape[0]}, as response_mask.")

    def with_responses(self, responses: Tensor, truncated: Tensor) -> StepTokens:
        """The same step with two more fields; what was already worked out of the others is kept."""
        found = replace(self, responses=responses, truncated=truncated)
        vars(found).update({name: vars(self)[name] for name in ("mask", "counts", "_columns") if name in vars(self)})
        return found

    @cached_property
    def rows(self) -> Sessions:
        """Which rows are one response."""
        return Sessions.of_rows(len(self.uid)) if self.sessions is None else self.sessions

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Rows of the last outputs of each prompt's responses, prompts in their first order."""
        groups: dict[str, list[int]] = {name: [] for name in self.uid}
        for row in self.rows.last:
            groups[self.uid[row]].append(row)
        return list(groups.values())

    @cached_property
    def prompt_rows(self) -> list[list[int]]:
        """All rows of each prompt, in the order of :attr:`prompts`."""
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(self.uid):
            groups.setdefault(name, []).append(row)
        return list(groups.values())

    @cached_property
    def mask(self) -> Tensor:
        """``(batch, response)`` boolean response mask."""
        return self.response_mask.bool()

    @cached_property
    def counts(self) -> Tensor:
        """``(batch,)`` number of the policy's own tokens in each response."""
        return self.mask.sum(1)

    @cached_property
    def _columns(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        return {}

    def _column(self, name: str) -> tuple[Tensor, Tensor | None]:
        """One field at the policy's tokens, ``(tokens,)`` fp64, and which are finite; None where all are."""
        if name not in self._columns:
            values = torch.masked_select(getattr(self, name), self.mask).double()
            # a sum of finite fp32 values is finite in fp64: cheaper to look at than every value
            finite = None if math.isfinite(values.sum()) else values.isfinite()
            self._columns[name] = values, finite
        return self._columns[name]

    def column(self, name: str) -> Tensor:
        """One field at all tokens of the policy, ``(tokens,)`` in fp64, row by row; never to be changed in place."""
        return self._column(name)[0]

    def keep(self, *names: str, impossible: bool = False) -> Tensor | None:
        """``(tokens,)`` True where every named field is finite; None where all are, which is the usual case.

        Args:
            impossible: a log-prob of -inf stays too. Its p is 0, so that it adds 0 to whatever p weighs, and a clamped
                difference of log-probs has a value there; NaN and +inf leave.
        """
        kept: Tensor | None = None
        for name in names:
            values, finite = self._column(name)
            if finite is not None and impossible and name in LOG_PROBS:
                finite = values < math.inf
            kept = finite if kept is None else kept if finite is None else kept & finite
        return kept

    def flat(self, *names: str, impossible: bool = False) -> list[Tensor]:
        """Each field's readable tokens as ``(tokens,)`` in fp64, the same tokens for all; not to be changed in place.

        A token is readable where the mask is on and :meth:`keep` holds for these fields. With ``impossible`` a log-prob
        of -inf is given as -1e4.
        """
        kept = self.keep(*names, impossible=impossible)
        if kept is None:
            return [self.column(name) for name in names]
        return [self.column(name)[kept].nan_to_num(neginf=LOWEST) for name in names]

    def entropy_sum(self) -> tuple[float, int]:
        """Sum of the exact entropy in nats, in fp64, and the number of tokens that it runs over.

        These are the tokens of ``entropo/entropy/token_mean``: the policy's own, in rows that are no padding, not
        rejected by the host, with a finite entropy. (0, 0) without an entropy.
        """
        if self.entropy is None:
            return 0.0, 0
        (entropy,) = self.flat("entropy")
        return float(entropy.sum()), len(entropy)

    @cached_property
    def scores(self) -> Tensor | None:
        """``(batch,)`` fp64 score of each row's response, or None without rewards.

        A response's score is that of its last output; a reward that is not finite counts 0.
        """
        if self.rm_scores is None:
            return None
        place = torch.arange(self.rm_scores.shape[1])
        inside = (place < self.response_length[:, None]) & self.rm_scores.isfinite()
        own = torch.where(inside, self.rm_scores, torch.zeros_like(self.rm_scores)).sum(1, dtype=torch.float64)
        return self.rows.to_rows(own)

    def right(self, threshold: float = 0.5) -> Tensor | None:
        """``(batch,)`` True where the score of the row's response exceeds ``threshold``, or None without rewards."""
        return None if self.scores is None else self.scores > threshold
