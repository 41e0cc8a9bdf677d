"""One global step as the monitor sees it: padded CPU tensors on the driver, and the two ways to read them."""

from __future__ import annotations

from dataclasses import dataclass

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
        responses: ``(batch, response)`` token ids.
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
    responses: Tensor
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

    @property
    def mask(self) -> Tensor:
        """``(batch, response)`` boolean response mask."""
        return self.response_mask.bool()

    def scores(self) -> Tensor | None:
        """``(batch,)`` fp64 score of each response, or None without rewards; a reward that is not finite counts 0."""
        if self.rm_scores is None:
            return None
        place = torch.arange(self.rm_scores.shape[1])
        inside = (place < self.response_length[:, None]) & self.rm_scores.isfinite()
        return torch.where(inside, self.rm_scores, torch.zeros_like(self.rm_scores)).double().sum(1)

    def right(self, threshold: float = 0.5) -> Tensor | None:
        """``(batch,)`` True where the score exceeds ``threshold``, or None without rewards."""
        scores = self.scores()
        return None if scores is None else scores > threshold


def readable(mask: Tensor, *fields: Tensor) -> Tensor:
    """``(batch, response)`` True where the mask is on and every field is finite."""
    keep = mask
    for each in fields:
        keep = keep & each.isfinite()
    return keep


def flat(mask: Tensor, *fields: Tensor) -> list[Tensor]:
    """Each field's readable tokens as ``(tokens,)`` in fp64, the same tokens for all fields."""
    keep = readable(mask, *fields)
    return [each[keep].double() for each in fields]
