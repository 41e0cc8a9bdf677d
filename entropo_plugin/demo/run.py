"""``entropo demo``: trains from the same start with stock GRPO and then with ours, and shows what differs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entropo_plugin.demo import pretrained, task
from entropo_plugin.demo.outcome import Outcome, table, write_summary
from entropo_plugin.fields import ConfigError
from entropo_plugin.launch import TrainingFailed, train

STOCK = ["algorithm.adv_estimator=grpo", "+entropo=monitor"]
KL_LOSS = [
    *STOCK,
    "actor_rollout_ref.actor.use_kl_loss=true",
    "actor_rollout_ref.actor.kl_loss_coef=0.1",
]
OBJECTIVES = {
    "kl_loss": KL_LOSS,
    "repo_anchored": ["algorithm.adv_estimator=grpo", "+entropo=repo_anchored", "entropo.anchored.b=0.1"],
    "repo_r": ["+entropo=repo_r", "entropo.repo.zeta.initial=0.1", "entropo.repo.zeta.high=0.5"],
    "repo_neutral": ["+entropo=repo_neutral", "entropo.target.fraction=0.8"],
    "repo_d": ["+entropo=repo_d", "entropo.repo.zeta.initial=1"],
}
TARGET = "entropo.target."
SAMPLES = 32
DISTINCT = "entropo/diversity/distinct_right"
# held-out pass@k before the training, then this many times
VALIDATIONS = 3
# 12 prompts x 8 answers a step, four optimizer steps on 24 each. In a simulation of this task two GRPO runs of twenty
# ended at reward 0 with a constant rate and one with a decaying one; that was with the larger epsilon, too.
SETTINGS = [
    "data.train_batch_size=12",
    "actor_rollout_ref.actor.ppo_mini_batch_size=3",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=24",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=96",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=96",
    "actor_rollout_ref.actor.optim.lr=2e-3",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=2",
    "actor_rollout_ref.actor.optim.lr_scheduler_type=cosine",
    "actor_rollout_ref.actor.optim.min_lr_ratio=0.1",
    "+actor_rollout_ref.actor.optim.override_optimizer_config.eps=1e-5",
    "entropo.monitor.tokens=20",
]
# what the demo's recipe says of the machine, taken back
CUDA = [
    "entropo.host=auto",
    "trainer.device=cuda",
    "ray_kwargs.ray_init.runtime_env.env_vars.ENTROPO_CPU='0'",
]


@dataclass(frozen=True)
class Model:
    """What trainings start from.

    Attributes:
        make: writes the task's data into a folder, given seed, number of warm-up steps and a callback that hears the
            steps done; returns the model's folder.
        warm_steps: supervised steps of the warm start.
        trained: the numbers of the training prompts.
        steps: training steps of each run, where the command line names none.
        settings: overrides of every run.
        objectives: overrides by the name of an objective.
        patience: seconds without a step after which a run is ended.
    """

    make: Callable[[Path, int, int, Callable[[int], None]], Path]
    warm_steps: int
    trained: Sequence[int]
    steps: int
    settings: list[str]
    objectives: dict[str, list[str]]
    patience: float = 300


MODELS = {
    "tiny": Model(task.make, task.STEPS, task.TRAINED, 42, SETTINGS, OBJECTIVES),
    "smollm2": Model(
        pretrained.make,
        pretrained.WARM_STEPS,
        pretrained.TRAINED,
        20,
        pretrained.SETTINGS,
        pretrained.OBJECTIVES | {"kl_loss": KL_LOSS, "repo_anchored": OBJECTIVES["repo_anchored"]},
        900,
    ),
}
LABELS = {
    "kl_loss": "GRPO + KL loss",
    "repo_anchored": "anchored REPO",
    "repo_r": "REPO-R",
    "repo_d": "REPO-D",
    "repo_neutral": "model-based REPO",
}
# ours without a reference model, and what one would take without us
DEFAULT = ["repo_r", "kl_loss"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``entropo demo``."""
    parser.add_argument(
        "--model", choices=MODELS, default="tiny", help="tiny: made on the spot; smollm2: pretrained, 135M parameters"
    )
    parser.add_argument("--steps", type=int, help="training steps of each run (default 42; with smollm2 20)")
    parser.add_argument(
        "--objective",
        choices=OBJECTIVES,
        nargs="+",
        default=DEFAULT,
        help=f"what runs against stock GRPO, one or more (default {' '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--rollout",
        choices=("hf", "vllm"),
        default="hf",
        help="what samples: transformers (hf, the default), or vLLM, whose server takes a minute more to start a run",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="what trains, and samples with hf (default cpu)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of model, data and sampling (default 0)")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="leave out a third run that would not fit (default: no limit)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for everything that is written")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further settings of the runs with ours; entropo.target.fraction=0.6 replaces the demo's target",
    )


def run(options: argparse.Namespace) -> int:
    """Run the demo; 0 when both trainings finished."""
    started, out = time.monotonic(), options.out.resolve()
    _check(options)
    options.steps = options.steps or MODELS[options.model].steps
    trained = ", ".join(map(str, MODELS[options.model].trained))
    print(f"The task: write three digits whose sum is N. Trained on N = {trained}, tested on 10 to 19.\n")
    print(f"Everything goes to {out}\n", flush=True)
    options.start = make_task(out / "task", MODELS[options.model], options.seed)
    try:
        outcomes = _train_all(out, options, started)
    except TrainingFailed as error:
        print(f"\nThe training failed: {error}")
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; every process of the training has been ended.")
        return 130
    _show(out, outcomes, options, time.monotonic() - started)
    return 0


def _train_all(out: Path, options: argparse.Namespace, started: float) -> dict[str, Outcome]:
    """Stock GRPO, the first objective, and each further one that is expected to end within ``--seconds``."""
    outcomes = {"grpo": train_once("stock GRPO", out / "grpo", STOCK, options)}
    for number, each in enumerate(options.objective):
        left = options.seconds - (time.monotonic() - started)
        # the first run of a fresh environment is slow: another process compiles beside it
        if number and left < [*outcomes.values()][-1].seconds:
            print(f"\n{LABELS[each]} is left out, {left:.0f} s are too few. To see it: entropo demo --objective {each}")
            continue
        ours = with_settings(MODELS[options.model].objectives[each], options.set)
        outcomes[each] = train_once(LABELS[each], out / each, ours, options)
    return outcomes


def with_settings(objective: Sequence[str], more: Sequence[str]) -> list[str]:
    """The objective's overrides and those of ``--set``; a target of one's own replaces the demo's whole way to one."""
    own = any(word.startswith(TARGET) for word in more)
    return [*(word for word in objective if not (own and word.startswith(TARGET))), *more]


def _check(options: argparse.Namespace) -> None:
    if options.steps is not None and options.steps < 2:
        raise ConfigError(f"--steps={options.steps}: a training needs at least 2 steps.")
    if options.device == "cuda" and not _has_gpu():
        raise ConfigError("--device=cuda: torch finds no GPU in this machine. Leave --device out.")
    if options.device == "cuda" and options.rollout == "vllm":
        raise ConfigError("--rollout=vllm: with --device=cuda the demo samples with transformers. Leave --rollout out.")
    wanted = {"vllm": "cpu", "matplotlib": "report"} if options.rollout == "vllm" else {"matplotlib": "report"}
    for module, extra in wanted.items():
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"the demo needs {module}. Run: pip install 'entropo-plugin[{extra}]'")
    if options.model == "smollm2":
        pretrained.check()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def make_task(folder: Path, model: Model, seed: int) -> Path:
    """Write the task; returns the folder of the model that every run starts from."""
    from tqdm import tqdm

    with tqdm(total=model.warm_steps, desc="warm start (supervised)", unit="step") as bar:
        return model.make(folder, seed, model.warm_steps, lambda done: bar.update(done - bar.n))


def train_once(label: str, folder: Path, overrides: list[str], options: argparse.Namespace) -> Outcome:
    """One run; one that has ended with the same settings is not made again."""
    settings, done = _overrides(folder, options) + overrides, folder / "done.json"
    kept = json.loads(done.read_text()) if done.exists() else {}
    if kept.get("settings") == settings:
        print(f"{label}: already trained, in {folder}; to train it again, delete that folder.")
        return Outcome.read(label, folder, kept["seconds"], MODELS[options.model].trained)
    done.unlink(missing_ok=True)
    seconds = _watch(label, folder, settings, options)
    done.write_text(json.dumps({"settings": settings, "seconds": seconds}, indent=1))
    return Outcome.read(label, folder, seconds, MODELS[options.model].trained)


def _watch(label: str, folder: Path, settings: list[str], options: argparse.Namespace) -> float:
    """Train with a progress bar; returns the seconds it took."""
    from tqdm import tqdm

    with tqdm(total=options.steps, desc=f"{label} (starting Ray and the rollout server)", unit="step") as bar:

        def on_step(line: dict) -> None:
            data = line["data"]
            if "critic/score/mean" in data:
                bar.set_description(label)
                bar.set_postfix(entropy=f"{data['actor/entropy']:.2f}", reward=f"{data['critic/score/mean']:.2f}")
                bar.update(line["step"] - bar.n)

        return train(folder, settings, on_step, MODELS[options.model].patience, device=options.device)


def _overrides(folder: Path, options: argparse.Namespace) -> list[str]:
    made = folder.parent / "task"
    return [
        "+cpu=tiny",
        *MODELS[options.model].settings,
        *CUDA * (options.device == "cuda"),
        f"actor_rollout_ref.model.path={options.start}",
        f"data.train_files={made / 'train.parquet'}",
        f"data.val_files={made / 'test.parquet'}",
        "reward.custom_reward_function.path=pkg://entropo_plugin.demo.task",
        f"trainer.default_local_dir={folder / 'checkpoints'}",
        f"trainer.validation_data_dir={folder / 'validation'}",
        f"trainer.experiment_name={folder.name}",
        f"trainer.total_training_steps={options.steps}",
        "trainer.val_before_train=true",
        f"trainer.test_freq={max(1, options.steps // VALIDATIONS)}",
        f"actor_rollout_ref.rollout.val_kwargs.n={SAMPLES}",
        "actor_rollout_ref.rollout.val_kwargs.do_sample=true",
        "actor_rollout_ref.rollout.val_kwargs.temperature=1.0",
        f"actor_rollout_ref.rollout.name={options.rollout}",
        f"actor_rollout_ref.rollout.seed={options.seed}",
        f"actor_rollout_ref.actor.data_loader_seed={options.seed}",
        f"data.seed={options.seed}",
    ]


def _show(out: Path, outcomes: dict[str, Outcome], options: argparse.Namespace, seconds: float) -> None:
    from entropo_plugin.report import main as report
    from entropo_plugin.report.png import write_png
    from entropo_plugin.report.runs import read_runs

    folders = [str(out / name) for name in outcomes]
    picture = write_png(_story(read_runs(folders)), out / "demo.png")
    summary = write_summary(out, list(outcomes.values()), options.seed)
    print(f"\n{table(list(outcomes.values()))}\n", flush=True)
    report([*folders, "--out", str(out / "report.html")])
    print(f"picture: {picture}\nnumbers: {summary}\nlogs:    {out}/*/train.log, metrics.jsonl")
    print(f"The whole demo took {seconds / 60:.1f} minutes.")


def _story(runs: Any) -> Any:
    """The report's first pictures, and how many different right answers the training still finds."""
    from entropo_plugin.report.figure import Panel, curve
    from entropo_plugin.report.sections.overview import overview_section

    curves = [curve(run, data, "noisy") for run in runs if (data := run.metric(DISTINCT))]
    story = overview_section(runs)
    panel = Panel("Different right answers among 8", "step", "answers of a trained prompt", curves, zero=True)
    return replace(story, panels=[*story.panels, panel])
