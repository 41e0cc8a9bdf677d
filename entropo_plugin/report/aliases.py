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
# SkyRL, skyrl/train/trainer.py and its workers. `policy/policy_kl` is to the reference model.
SKYRL = {
    "policy/policy_entropy": "entropy",
    "reward/avg_raw_reward": "critic/score/mean",
    "policy/grad_norm": "actor/grad_norm",
    "policy/raw_grad_norm": "actor/grad_norm",
    "policy/ppo_clip_ratio": "actor/pg_clipfrac",
    "generate/avg_num_tokens": "response_length/mean",
    "eval/all/avg_score": "val-core/evaluation/mean@1",
}
# OpenRLHF, openrlhf/trainer/ray/ppo_actor.py. Its entropy_loss is the entropy itself, and is logged where
# entropy_loss_coef is set, be it to 0; `kl` is to the reference model.
OPENRLHF = {
    "entropy_loss": "entropy",
    "ppo_kl": "actor/ppo_kl",
    "ppo_clip_ratio": "actor/pg_clipfrac",
    "response_length": "response_length/mean",
}
NAMES = TRL | SKYRL | OPENRLHF
# transformers and OpenRLHF put it before every name that they write to TensorBoard.
PREFIX = "train/"


def known_as(name: str) -> str:
    """The report's name of a metric; a name that stands in no table stays."""
    short = name.removeprefix(PREFIX)
    return NAMES.get(short, short if short.startswith("entropo/") else name)
