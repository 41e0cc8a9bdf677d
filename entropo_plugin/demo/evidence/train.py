"""One run: a training on TRL from the task's start, and what its policy can do afterwards."""

from __future__ import annotations

import gc
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entropo_plugin.demo.evidence.arms import Arm
from entropo_plugin.demo.evidence.measure import mean, measured, sample
from entropo_plugin.demo.evidence.reward import Reward
from entropo_plugin.demo.evidence.tasks import Task

GROUP = 8  # answers to a prompt
LAST = 10  # rollout batches whose reward and entropy stand for the end
MEASURED = 16  # prompts of each kind
CURVES = {
    "reward": "reward",
    "entropy": "entropo/entropy/token_mean",
    "right_entropy": "entropo/entropy/right_answers",
    "distinct_of_8": "entropo/diversity/distinct_right",
    "grad_norm": "grad_norm",
    "clip_share": "entropo/clip/above_positive",
    "chosen": "entropo/selection/penalised",
    "dropped": "entropo/selection/dropped",
    "bf16_share": "entropo/precision/logp_bf16_share",
}
DEAD = 0.1
KEPT = 10_000_000  # parameters; a larger model would fill the disk with runs


@dataclass(frozen=True)
class Job:
    """What makes a run the run that it is.

    Attributes:
        rate: multiple of the task's learning rate.
        rollouts: rollout batches.
        start: folder of the model it starts from.
    """

    arm: str
    rate: float
    seed: int
    rollouts: int
    start: Path


def settle() -> None:
    """What a process that does nothing but runs sets once, for all of them."""
    import torch

    from entropo_plugin.hosts import trl  # noqa: F401, with all of TRL: imported now, it lies before the freeze

    torch.set_num_threads(1)
    for noisy in ("transformers", "trl", "accelerate", "entropo_plugin"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    gc.freeze()  # every training begins with a collection, which need not look at what is imported


def run(task: Task, arm: Arm, job: Job, folder: Path) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Train and measure; the numbers of the row, and the curves by rollout batch. The model is left in ``folder``."""
    trainer = _trainer(task, arm, job, folder)
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    curve = curves(trainer.state.log_history)
    if trainer.model.num_parameters() < KEPT:
        trainer.model.save_pretrained(folder / "model")
        trainer.processing_class.save_pretrained(folder / "model")
    return outcome(trainer.model, trainer.processing_class, task, job.seed, curve) | {"seconds": seconds}, curve


def outcome(model: Any, tok: Any, task: Task, seed: int, curve: list[dict[str, float]]) -> dict[str, float]:
    """The numbers of a row."""
    row = {"entropy_start": curve[0]["entropy"], "entropy_end": mean([each["entropy"] for each in curve[-LAST:]])}
    row["reward_end"] = mean([each["reward"] for each in curve[-LAST:]])
    row["rollouts_to_half"] = first_above(curve, 0.5)
    for kind, prompts in (("trained", task.trained), ("held_out", task.held_out)):
        answers = sample(model, tok, prompts[:MEASURED], task.response, seed)
        row |= {f"{kind}_{name}": value for name, value in measured(answers, task.right).items()}
    return row | {"dead": float(row["trained_pass1"] < DEAD)}


def first_above(curve: list[dict[str, float]], reward: float, over: int = 3) -> float:
    """The first rollout batch from which the mean reward of ``over`` reaches ``reward``; infinite where none does."""
    for index in range(len(curve) - over + 1):
        if mean([each["reward"] for each in curve[index : index + over]]) >= reward:
            return index + 1
    return math.inf


def curves(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One entry a rollout batch; a metric that a batch did not have is NaN."""
    steps = [entry for entry in history if "reward" in entry]
    return [{name: float(entry.get(key, math.nan)) for name, key in CURVES.items()} for entry in steps]


def _trainer(task: Task, arm: Arm, job: Job, folder: Path) -> Any:
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    from entropo_plugin.hosts.trl import EntropoGRPOConfig, EntropoGRPOTrainer

    datasets.disable_progress_bars()
    settings: dict[str, Any] = dict(
        output_dir=str(folder),
        per_device_train_batch_size=task.prompts * GROUP // task.updates,
        steps_per_generation=task.updates,
        num_generations=GROUP,
        max_completion_length=task.response,
        learning_rate=task.rate * job.rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=2 * task.updates,
        # in a simulation GRPO died less often with the larger epsilon
        adam_epsilon=1e-5,
        max_steps=job.rollouts * task.updates,  # optimizer steps, however many micro-batches they have
        logging_steps=task.updates,
        seed=job.seed,
        report_to=[],
        use_cpu=True,
        gradient_checkpointing=False,  # models this small have memory to spare
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
        entropo=arm.entropo,
    )
    model = AutoModelForCausalLM.from_pretrained(job.start)
    tok = AutoTokenizer.from_pretrained(job.start, padding_side="left")
    trainer = EntropoGRPOTrainer(
        model=model,
        reward_funcs=Reward(task, arm.kl_in_reward, model, tok),
        args=EntropoGRPOConfig(**(settings | arm.trl)),
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in task.trained] * 200),
        processing_class=tok,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
