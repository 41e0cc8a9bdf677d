"""What other trainers call the metrics that the report draws: each is read under the name that it has here."""

from __future__ import annotations

# TRL 1.16, grpo_trainer.py. Its KL is to the reference model, which verl's actor/ppo_kl is not. `entropy` keeps its
# name: a mean of micro-batches' token means.
TRL = {
    "entropy": "entropy",
    "reward": "critic/score/mean",
    "grad_norm": "actor/grad_norm",
    "clip_ratio/region_mean": "actor/pg_clipfrac",
    "completions/mean_length": "response_length/mean",
    "eval_reward": "val-core/evaluation/mean@1",
    "eval/reward": "val-core/evaluation/mean@1",
}
# transformers puts it before every name that it writes to TensorBoard.
PREFIX = "train/"


def known_as(name: str) -> str:
    """The report's name of a metric; a name that stands in no table stays."""
    short = name.removeprefix(PREFIX)
    return TRL.get(short, short if short.startswith("entropo/") else name)
