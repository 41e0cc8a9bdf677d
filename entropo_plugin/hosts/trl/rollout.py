"""One rollout batch: what this process has of it, and what all processes have together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.monitor import StepTokens

logger = logging.getLogger("entropo_plugin")

# TRL's inputs of a forward pass beside ids, masks and the number of images (grpo_trainer.py, `_compute_loss`).
FORWARD = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


@dataclass
class Caught:
    """What TRL computes on the way to a rollout batch and does not hand on.

    Attributes:
        rewards: ``(global batch, functions)``.
        completions: this process's token ids, without padding.
        entropy: ``(batch, response)`` pi_old's, where TRL makes a pass of pi_old.
    """

    rewards: Tensor | None = None
    completions: Sequence[Sequence[int]] = ()
    entropy: Tensor | None = None
    old_pass: bool = False


@dataclass
class Rollout:
    """A rollout batch from its sampling to its last micro-batch.

    Attributes:
        number: of rollout batches so far, this one included.
        local: this process's fields, ``(batch, response)`` or ``(batch,)``, rows as they were sampled.
        step: all processes' tokens, on the CPU; None until pi_old's log-probs are known.
        coefficients: what acts on it, by method.
        metrics: of the driver's part.
        sums: of values over the response tokens of all micro-batches, by metric.
        tokens: number of these response tokens.
        micro: micro-batches that are done.
        seconds: spent on it beside TRL.
    """

    number: int
    local: dict[str, Tensor]
    step: StepTokens | None = None
    coefficients: dict[str, dict[str, float]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    tokens: Any = 0
    micro: int = 0
    seconds: float = 0.0

    def record(self, rows: Tensor, log_prob: Tensor, entropy: Tensor) -> None:
        """Keep one micro-batch's log-probs and entropies, where the policy is still pi_old."""
        for name, values in (("log_prob", log_prob), ("entropy", entropy)):
            self.local.setdefault(name, torch.zeros_like(self.local["mask"], dtype=values.dtype))[rows] = (
                values.detach()
            )

    def add(self, mask: Tensor, shares: dict[str, Tensor]) -> None:
        """Add one micro-batch's ``(batch, response)`` values; one that is not finite counts 0."""
        kept = mask.bool()
        # Apple's devices have no fp64
        wide = torch.float32 if mask.device.type == "mps" else torch.float64
        for name, values in shares.items():
            total = torch.where(kept & values.isfinite(), values.to(wide), 0.0).sum()
            self.sums[name] = self.sums.get(name, 0.0) + total
        self.tokens = self.tokens + kept.sum()


def fields_of(out: dict[str, Any], caught: Caught, ends: Sequence[int]) -> dict[str, Tensor]:
    """This process's fields of a rollout batch.

    Args:
        out: TRL's output of ``_generate_and_score_completions``.
        caught: what it computed on the way.
        ends: tokens that end a completion.
    """
    mask = out["completion_mask"]
    device, completions = mask.device, caught.completions
    advantage = out["advantages"]
    own = mask * out["tool_mask"] if "tool_mask" in out else mask
    fields = {
        "mask": own,
        "ids": out["completion_ids"],
        "length": torch.tensor([len(ids) for ids in completions], device=device),
        "cut": torch.tensor([int(ids[-1] not in ends) for ids in completions], device=device),
        "advantage": (advantage.unsqueeze(1) if advantage.dim() == 1 else advantage) * own,
    }
    optional = {
        "log_prob": out.get("old_per_token_logps"),
        "entropy": caught.entropy,
        "ref_log_prob": out.get("ref_per_token_logps"),
        "rollout_log_prob": out.get("sampling_per_token_logps"),
    }
    return fields | {name: values for name, values in optional.items() if values is not None}


def gathered(accelerator: Any, local: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every field of all processes, rows in the order of the processes, on the CPU: the same everywhere."""
    together = {}
    for name, values in local.items():
        wide = accelerator.pad_across_processes(values.contiguous(), dim=1) if values.dim() > 1 else values
        together[name] = accelerator.gather(wide).detach().cpu()
    return together


def finite_rewards(rewards: Tensor, choice: str, number: int) -> Tensor:
    """``(global batch, functions)``, in which a response with an infinite reward has none where the choice is ``drop``.

    NaN is TRL's own word for a function that does not apply; TRL leaves a response out to which none applies.

    Raises:
        FloatingPointError: a reward is infinite and the choice is ``stop``.
    """
    infinite = rewards.isinf().any(1)
    if not infinite.any():
        return rewards
    words = f"rollout batch {number}: {int(infinite.sum())} of {len(rewards)} responses have an infinite reward"
    if choice == "stop":
        raise FloatingPointError(
            f"{words}: an update would spoil the policy. Fix the reward function, or set entropo.nan_reward=drop to "
            "leave such responses out."
        )
    logger.warning("entropo_plugin: %s; it goes on without them.", words)
    return torch.where(infinite[:, None], torch.nan, rewards)


def scores_of(rewards: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """``(batch,)`` weighted sum of each response's rewards, and which responses no function scored."""
    unscored = rewards.isnan().all(1)
    return (rewards * weights.to(rewards.device)).nansum(1), unscored


def groups_of(rows: int, size: int) -> Tensor:
    """``(batch,)`` prompt of each row: TRL samples the responses to one prompt side by side."""
    return torch.arange(rows) // size


def base_advantages(method: Method, rewards: Tensor, unscored: Tensor, group: Tensor) -> Tensor:
    """``(batch,)`` a method's own; a response that no function scored is in nobody's baseline, and gets 0."""
    rewards, unscored = rewards.cpu(), unscored.cpu()
    alone = torch.where(unscored, group.max() + 1 + unscored.cumsum(0), group)
    _, alone = torch.unique(alone, return_inverse=True)
    return torch.where(unscored, 0.0, method.baseline(rewards, alone))


def driver_tokens(fields: dict[str, Tensor], score: Tensor, group: Tensor, number: int) -> Tokens:
    """The whole batch as the pipeline takes it; a row's key depends on the batch and its place alone."""
    logp = fields["log_prob"]
    return Tokens(
        log_prob=logp,
        mask=fields["mask"],
        old_log_prob=logp,
        advantage=fields["advantage"],
        entropy=fields["entropy"],
        ref_log_prob=fields.get("ref_log_prob"),
        reward=score,
        group=group,
        keys=[f"{number}_{row}" for row in range(len(logp))],
        step=number,
    )


def step_tokens(fields: dict[str, Tensor], score: Tensor, group: Tensor, unscored: Tensor) -> StepTokens:
    """The whole batch as the monitor takes it: without the responses that no function scored."""
    fields = {name: values[~unscored] for name, values in fields.items()}
    score, group = score[~unscored], group[~unscored]
    first = torch.arange(fields["mask"].shape[1]) == 0
    return StepTokens(
        response_mask=fields["mask"],
        old_log_probs=fields["log_prob"],
        responses=fields["ids"],
        response_length=fields["length"],
        uid=[str(each) for each in group.tolist()],
        entropy=fields["entropy"],
        rollout_log_probs=fields.get("rollout_log_prob"),
        advantages=fields["advantage"],
        rm_scores=score[:, None] * first,
        truncated=fields["cut"].bool(),
    )
