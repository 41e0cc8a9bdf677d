"""The names of metrics: which the report draws, and what other trainers call them."""

from __future__ import annotations

import re

ENTROPY, VERL_ENTROPY, TRL_ENTROPY = "entropo/entropy/token_mean", "actor/entropy", "entropy"
TARGET = "entropo/target"
SCORES = ("critic/score/mean", "critic/rewards/mean")
# entropy of the right answers alone, and how many it rests on
RIGHT_ANSWERS, RIGHT_RESPONSES = "entropo/entropy/right_answers", "entropo/diversity/right_responses"
# A metric that is logged with one of these beside it is a coefficient that something moves.
MOVED = re.compile(r"entropo/(.*)_(?:next|at_bound)", re.DOTALL)
AT_BOUND = "_at_bound"
TRAINING_PASS = re.compile(r"entropo/pass(?:_at/|@)([1-9][0-9]{0,6})")
VALIDATION_MEAN = re.compile(r"val-core/(.+)/mean@([1-9][0-9]{0,6})")
VALIDATION_BEST = re.compile(r"val-(?:core|aux)/(.+)/best@([1-9][0-9]{0,6})/mean")
NO_GRADIENT = ("entropo/diversity/equal_share", "frac_reward_zero_std")
# Metrics of one step, which are added up, and their unit's size; ours counts the responses' tokens alone.
SPENT = {
    "tokens": {"perf/total_num_tokens": 1.0, "entropo/tokens/count": 1.0},
    "hours": {"timing_s/step": 3600.0, "perf/time_per_step": 3600.0},
}
# TRL adds its tokens up itself.
TOTAL = {"tokens": "num_tokens", "hours": ""}
OTHERS = {
    "response_length/mean": "response length (tokens)",
    "actor/ppo_kl": "KL to the rollout policy (nats)",
    "actor/pg_clipfrac": "clipped share of tokens",
    "actor/grad_norm": "gradient norm",
}
# Prefixes of the metrics that the report looks at; a log holds some 150 others.
WANTED = ("entropo/", "val-core/", "val-aux/", VERL_ENTROPY, TRL_ENTROPY, *SCORES, *NO_GRADIENT, *OTHERS)
WANTED += (*SPENT["tokens"], *SPENT["hours"], TOTAL["tokens"])

# TRL 1.16, grpo_trainer.py. Its KL is to the reference model, which verl's actor/ppo_kl is not. `entropy` keeps its
# name: a mean of micro-batches' token means.
TRL = {
    "entropy": TRL_ENTROPY,
    "reward": "critic/score/mean",
    "grad_norm": "actor/grad_norm",
    "clip_ratio/region_mean": "actor/pg_clipfrac",
    "completions/mean_length": "response_length/mean",
    "eval_reward": "val-core/evaluation/mean@1",
    "eval/reward": "val-core/evaluation/mean@1",
    "num_tokens": "num_tokens",
    "frac_reward_zero_std": "frac_reward_zero_std",
}
# SkyRL, skyrl/train/trainer.py and its workers. `policy/policy_kl` is to the reference model.
SKYRL = {
    "policy/policy_entropy": TRL_ENTROPY,
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
    "entropy_loss": TRL_ENTROPY,
    "ppo_kl": "actor/ppo_kl",
    "ppo_clip_ratio": "actor/pg_clipfrac",
    "response_length": "response_length/mean",
}
ALIASES = TRL | SKYRL | OPENRLHF
# transformers and OpenRLHF put it before every name that they write to TensorBoard.
PREFIX = "train/"


def known_as(name: str) -> str:
    """The report's name of a metric; a name that stands in no table stays."""
    short = name.removeprefix(PREFIX)
    return ALIASES.get(short, short if short.startswith("entropo/") else name)


def is_pass(name: str) -> bool:
    """Whether a metric is a pass@k."""
    return any(pattern.fullmatch(name) for pattern in (TRAINING_PASS, VALIDATION_MEAN, VALIDATION_BEST))
