"""Real verl on SmolLM2-135M-Instruct, one run after the other: the table of docs/control.md, a file of steps a run.

Run: make pretrained, six minutes a run on two free cores; it needs the packages that ``entropo demo --model smollm2``
names, and a GPU for --device cuda. Stopped and started again it goes on.
PRETRAINED_ARGS="--runs grpo repo_neutral_ramp50 --seeds 1" makes fewer runs; --out names another folder than
docs/results/smollm2, where every run leaves RUN_seedN.csv: a row a step, below the command which makes the same run.
--table makes no run.
"""

import argparse
import csv
import math
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from entropo_plugin.cli import build_parser
from entropo_plugin.demo import pretrained, run
from entropo_plugin.demo.outcome import ENTROPY, REWARD, mean
from entropo_plugin.launch import read_steps

LAWS = {
    "repo_neutral": ["+entropo=repo_neutral"],
    "repo_r_matched": ["+entropo=repo_r", "entropo.repo.zeta.law=matched"],
}
RUNS = {
    "grpo": run.STOCK,
    "kl_loss": run.KL_LOSS,
    "repo_anchored": run.OBJECTIVES["repo_anchored"],
    "repo_r_doubling": run.OBJECTIVES["repo_r"],
    "kl_reward": [*run.STOCK, "algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.kl_coef=0.1"],
    "bonus": [*run.STOCK, "actor_rollout_ref.actor.entropy_coeff=0.01"],
    **{f"{name}_ramp50": [*law, *pretrained.RAMP] for name, law in LAWS.items()},
    **{
        f"{name}_hold{share}": [*law, f"entropo.target.fraction=0.{share // 10}"]
        for name, law in LAWS.items()
        for share in (80, 60)
    },
    # the target as a floor, and with a third of the authority downwards
    **{
        f"repo_neutral_down{down}_hold60": [
            *LAWS["repo_neutral"],
            "entropo.target.fraction=0.6",
            f"entropo.neutral.authority_down={down / 100}",
        ]
        for down in (0, 30)
    },
}
SLOW = "actor_rollout_ref.actor.optim.lr=5e-5"
# several runs share a GPU's machine: few threads and little shared memory for each
SMALL = [
    "ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS='2'",
    "++ray_kwargs.ray_init.object_store_memory=4000000000",
]
USUAL = {"steps": run.MODELS["smollm2"].steps, "device": "cpu"}
COLUMNS = {
    "entropy": ENTROPY,
    "target": "entropo/target",
    "coefficient": "",
    "at_bound": "",
    "reward": REWARD,
    "distinct_right": "entropo/diversity/distinct_right",
    "right_answers_entropy": "entropo/entropy/right_answers",
    "equal_share": "entropo/diversity/equal_share",
    "seconds": "timing_s/step",
    # where verl validated, at first before a step was made: prompts that are not trained, 32 answers to each
    "held_out": "val-core/held_out/acc/mean@32",
    "held_out_best8": "val-aux/held_out/acc/best@8/mean",
    "held_out_best32": "val-core/held_out/acc/best@32/mean",
}
VALIDATED = ("held_out", "held_out_best8", "held_out_best32")
BOUND = "_at_bound"
LABELS = {
    "grpo": "stock GRPO",
    "kl_loss": "GRPO + KL loss",
    "kl_reward": "GRPO + KL in the reward",
    "bonus": "GRPO + entropy bonus",
    "repo_anchored": "anchored REPO",
    "repo_r_doubling": "REPO-R, doubling",
    "repo_neutral_hold80": "model-based REPO, 0.8 at once",
    "repo_r_matched_hold80": "REPO-R matched, 0.8 at once",
    "repo_neutral_ramp50": "model-based REPO, ramp to 0.5",
    "repo_r_matched_ramp50": "REPO-R matched, ramp to 0.5",
}
SHOWN = ("grpo", "repo_neutral_hold80", "repo_r_matched_hold80", "repo_neutral_ramp50", "repo_r_matched_ramp50")
COLORS = ("#1f62b8", "#d4570a", "#0e8f76", "#c269bc", "#705b06", "#3f3f46")


def train(name, seed, wanted, work):
    """Train as ``entropo demo --model smollm2`` does, but that run alone; returns verl's log."""
    words = ["demo", "--model", "smollm2", "--device", wanted.device, "--seed", str(seed), "--out", str(work)]
    options, model = build_parser().parse_args(words), run.MODELS["smollm2"]
    options.steps, options.start = wanted.steps, run.make_task(work / "task", model, seed)
    settings = [*RUNS[name], *[SLOW] * wanted.slow, *SMALL * (wanted.device == "cuda")]
    run.train_once(f"{name}, seed {seed}", work / "run", settings, options)
    return work / "run" / "metrics.jsonl"


def rows(log):
    """A step's cells; the coefficient is the one of which verl's log says whether it stood at its bound."""
    for line in read_steps(log):
        data = line["data"]
        if ENTROPY not in data and COLUMNS["held_out"] not in data:
            continue
        bound = next((key for key in data if key.endswith(BOUND)), "")
        found = COLUMNS | {"at_bound": bound, "coefficient": bound.removesuffix(BOUND)}
        yield [line["step"], *(f"{data[key]:.4g}" if key in data else "" for key in found.values())]


def write(path, log, name, seed, wanted):
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        more = "".join(
            f" --{key} {getattr(wanted, key)}" for key, usual in USUAL.items() if getattr(wanted, key) != usual
        )
        again = f"--runs {name} --seeds {seed}{' --slow' * wanted.slow}{more}"
        # the environment of make has a torch without CUDA
        here = f'make pretrained PRETRAINED_ARGS="{again}"'
        file.write(f"# {here if wanted.device == 'cpu' else f'python tests/benchmarks/pretrained.py {again}'}\n")
        file.write(f"# {machine()}; verl {version('verl')}\n")
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["step", *COLUMNS])
        out.writerows(rows(log))
    unfinished.rename(path)


def machine():
    kind = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{torch.get_num_threads()} cores, {platform.machine()}, {kind}"


def read(path):
    """The columns as numbers; an empty cell, as of a run without a target, is NaN. Step 0 has a validation only."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found = csv.DictReader(lines)
    return [{name: float(cell or "nan") for name, cell in row.items()} for row in found]


def summary(lines):
    """Error: rms distance from the target from step 6 on; end: of the last three; held out: the last two validations.

    The rest are means of the last five steps.
    """
    steps = [line for line in lines if line["step"] > 0]
    off = [step["entropy"] / step["target"] - 1 for step in steps]
    error = mean([each**2 for each in off[5:]]) ** 0.5
    last = [mean([step[name] for step in steps[-5:]]) for name in ("entropy", "reward", "distinct_right")]
    shown = [f"{error:.1%}", f"{mean(off[-3:]):+.0%}"] if error == error else ["-", "-"]
    bound = [step["at_bound"] for step in steps]
    held = f"{sum(bound):.0f} of {len(bound)}" if bound[0] == bound[0] else "-"
    found = [*shown, held, f"{steps[0]['entropy']:.2f} to {last[0]:.2f}", f"{last[1]:.2f}", f"{last[2]:.1f}"]
    return found + [validated(lines, name) for name in VALIDATED]


def validated(lines, name):
    """Mean of the last two validations after the start; verl adds one after the last step."""
    found = [line[name] for line in lines if line["step"] > 0 and line.get(name, math.nan) == line.get(name)]
    return f"{mean(found[-2:]):.2f}" if found else "-"


def table(folder):
    head = [
        "run",
        "error",
        "end",
        "at bound",
        "entropy, nats",
        "reward",
        "distinct right",
        "held out",
        "best@8",
        "best@32",
    ]
    print(*(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head))), sep="\n")
    for path in sorted(folder.glob("*.csv")):
        print(f"| {' | '.join([path.stem, *summary(read(path))])} |")


def picture(folder, path, names):
    """Entropy with its target, and different right answers, of the runs at half the learning rate, seed 0."""
    from matplotlib import figure

    made = figure.Figure(figsize=(11, 3.8), layout="constrained")
    entropy, right = made.subplots(1, 2)
    for color, name in zip(COLORS, names, strict=False):
        steps = [line for line in read(folder / f"{name}_lr5e-5_seed0.csv") if line["step"] > 0]
        x = [step["step"] for step in steps]
        entropy.plot(x, [step["entropy"] for step in steps], color=color, label=LABELS[name])
        entropy.plot(x, [step["target"] for step in steps], color=color, ls=":")
        right.plot(x, [step["distinct_right"] for step in steps], color=color)
    entropy.set(title="Entropy and its target (dotted)", xlabel="step", ylabel="nats per token", ylim=0)
    right.set(title="Different right answers among 8", xlabel="step", ylim=0)
    entropy.legend(frameon=False, fontsize=8)
    for axes in (entropy, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    made.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=[*RUNS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--slow", action="store_true", help="half the learning rate")
    parser.add_argument("--steps", type=int, default=USUAL["steps"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default=USUAL["device"])
    parser.add_argument("--out", type=Path, default=Path("docs/results/smollm2"))
    parser.add_argument("--work", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--table", action="store_true", help="only print it")
    parser.add_argument("--picture", type=Path, help="a PNG to draw")
    parser.add_argument("--shown", nargs="+", choices=LABELS, default=SHOWN, help="the runs in it, six at most")
    options = parser.parse_args()
    if len(options.shown) > len(COLORS):
        parser.error(f"--shown: {len(options.shown)} runs, {len(COLORS)} at most")
    for seed in [] if options.table else options.seeds:
        for name in options.runs:
            stem = f"{name}{'_lr5e-5' if options.slow else ''}_seed{seed}"
            path, work = options.out / f"{stem}.csv", options.work.resolve() / stem
            if not path.exists():
                write(path, train(name, seed, options, work), name, seed, options)
    table(options.out)
    if options.picture:
        picture(options.out, options.picture, options.shown)


if __name__ == "__main__":
    main()
