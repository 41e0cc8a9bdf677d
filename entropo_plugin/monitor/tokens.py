"""One global step as the monitor sees it: padded CPU tensors on the driver, and the two ways to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepTokens:
    """The fields of one global step, without the host's padding rows.

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
        truncated: ``(batch,)`` True for a response that was cut at its length limit.
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

    def with_responses(self, responses: Tensor, truncated: Tensor) -> StepTokens:
        """The same step with two more fields; what was already worked out of the others is kept."""
        found = replace(self, responses=responses, truncated=truncated)
        vars(found).update({name: vars(self)[name] for name in ("mask", "counts", "_columns") if name in vars(self)})
        return found

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

    def keep(self, *names: str) -> Tensor | None:
        """``(tokens,)`` True where every named field is finite; None where all are, which is the usual case."""
        kept: Tensor | None = None
        for name in names:
            finite = self._column(name)[1]
            kept = finite if kept is None else kept if finite is None else kept & finite
        return kept

    def flat(self, *names: str) -> list[Tensor]:
        """Each field's readable tokens as ``(tokens,)`` in fp64, the same tokens for all; not to be changed in place.

        A token is readable where the mask is on and all of these fields are finite.
        """
        kept = self.keep(*names)
        return [self.column(name) if kept is None else self.column(name)[kept] for name in names]

    @cached_property
    def scores(self) -> Tensor | None:
        """``(batch,)`` fp64 score of each response, or None without rewards; a reward that is not finite counts 0."""
        if self.rm_scores is None:
            return None
        place = torch.arange(self.rm_scores.shape[1])
        inside = (place < self.response_length[:, None]) & self.rm_scores.isfinite()
        return torch.where(inside, self.rm_scores, torch.zeros_like(self.rm_scores)).sum(1, dtype=torch.float64)

    def right(self, threshold: float = 0.5) -> Tensor | None:
        """``(batch,)`` True where the score exceeds ``threshold``, or None without rewards."""
        return None if self.scores is None else self.scores > threshold
