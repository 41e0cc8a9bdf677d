"""What the methods may know of a TRL training, in terms that no host owns."""

from __future__ import annotations

import math
from typing import Any

from entropo_plugin.methods.base import Host
from entropo_plugin.methods.registry import losses

# TRL's losses with PPO's clipped surrogate per token; they differ in how they normalise it, and in nothing else.
SURROGATES = ("grpo", "bnpo", "dr_grpo", "dapo")
# How the loss of a method is normalised where `loss_type` names that method: TRL's default, a mean over tokens.
NORMALISED_AS = "dapo"
# How each loss type weighs tokens, in verl's names; the others give every token one weight.
WEIGHS = {
    "grpo": "seq-mean-token-mean",
    "sapo": "seq-mean-token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
    "luspo": "seq-mean-token-sum",
}


def host_of(args: Any) -> Host:
    """The facts of one ``GRPOConfig``, advantages being TRL's own."""
    sequence = args.importance_sampling_level == "sequence"
    high = args.epsilon if args.epsilon_high is None else args.epsilon_high
    return Host(
        name="TRL",
        estimator="TRL's own",
        estimator_key="advantages",
        loss_mode="sequence" if sequence else args.loss_type,
        default_loss=_default(args),
        loss_key="importance_sampling_level" if sequence else "loss_type",
        updates=updates(args),
        group_size=args.num_generations,
        entropy_coeff=float(args.entropy_coef),
        clip=(args.epsilon, high, math.inf if args.delta is None else args.delta),
        clip_set=_clip_set(args),
        agg_key="loss_type",
        loss_agg_mode=WEIGHS.get(args.loss_type, "token-mean"),
        shuffles=True,
        mixes="weighs all tokens of a response by one ratio" if sequence else "",
        fields=frozenset({"entropy", "current_entropy", "reward"} | ({"ref_log_prob"} if args.beta else set())),
        remedies=REMEDIES,
    )


def _clip_set(args: Any) -> dict[str, str]:
    """The settings of TRL's clip that are not its defaults; `delta` beside a loss of a method's own is refused."""
    high = "epsilon" if args.epsilon_high is None else "epsilon_high"
    settings = {"low": ("epsilon", 0.2), "high": (high, 0.2)}
    return {
        side: f"{name}={getattr(args, name)}"
        for side, (name, usual) in settings.items()
        if getattr(args, name) != usual
    }


def _default(args: Any) -> str:
    """A loss in whose place a method's own may run: where it differs in normalisation only, which stays."""
    return str(args.loss_type) if args.loss_type in SURROGATES else NORMALISED_AS


def loss_type(args: Any) -> str:
    """How TRL is to normalise: ``loss_type``, unless it is a door to a method."""
    return NORMALISED_AS if args.loss_type in losses() else str(args.loss_type)


def generate_every(args: Any) -> int:
    """Micro-batches until TRL samples anew (grpo_trainer.py, ``_prepare_inputs``)."""
    return int(args.steps_per_generation * args.num_iterations)


def aligned(args: Any) -> bool:
    """Whether pi_old is the current policy at every micro-batch, so that TRL leaves its log-probs out."""
    return bool(args.gradient_accumulation_steps % generate_every(args) == 0)


def makes_old_pass(args: Any) -> bool:
    """Whether TRL computes pi_old's log-probs by itself (``_generate_and_score_completions``)."""
    return not aligned(args) or bool(args.use_vllm and args.vllm_importance_sampling_correction)


def updates(args: Any) -> int:
    """Optimizer steps per rollout batch; 1 where the policy does not move within one."""
    if aligned(args):
        return 1
    return max(2, math.ceil(generate_every(args) / args.gradient_accumulation_steps))


REMEDIES = {
    "ref_log_prob": "Set beta above 0: with beta=0 TRL keeps no reference model.",
    "updates": "Set num_iterations to 2 or more, or steps_per_generation above gradient_accumulation_steps.",
    "shuffles": "TRL shuffles a rollout batch before it cuts it.",
    "more_responses": "Or raise num_generations.",
}
# TRL's names of the settings that an alarm advises to change
SETTINGS = {"samples": "num_generations", "length": "max_completion_length"}
