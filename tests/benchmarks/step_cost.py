"""What a step of real verl costs with ours beside stock GRPO: trainings on the CPU in turn, verl's own seconds a step.

Run: python tests/benchmarks/step_cost.py [ROUNDS]; each training takes about a minute, each round runs all of them, the
next one backwards. A Qwen2 of four layers, hidden size 128 and 2,048 tokens; 64 responses of up to 128 tokens a step. A
model this small makes our share larger than a real one would.

Prints one line of JSON: stock's seconds a step, and how far each run lies beyond stock, as a share of it. `processor`
is the mean over the steps of the processor's seconds of all processes of the training, `step` the median of verl's own
`timing_s/step`, and `without sampling` of that less `timing_s/gen`. `stock again` is stock against itself: the noise.
"""

import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

import psutil

from entropo_plugin import launch

STOCK = ["algorithm.adv_estimator=grpo"]
RUNS = {
    "stock": STOCK,
    "monitor": ["+entropo=monitor", *STOCK],
    "repo_r": ["+entropo=repo_r"],
    "repo_neutral": ["+entropo=repo_neutral"],
    "clip_cov": ["+entropo=clip_cov", *STOCK],
    "adapo": ["+entropo=adapo", *STOCK],
    "stock again": STOCK,
}
# the first steps compile, allocate and import
STEPS, WARM = 8, 2
VOCABULARY, LENGTH = 2048, 128


def compute_score(*unused, **unread):
    """verl's reward function: chance, so that advantages differ."""
    return random.random()


def make(folder):
    """A model whose vocabulary is so large that it seldom ends a response, and verl's data."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from entropo_plugin.demo import task

    tok = task.tokenizer()
    sizes = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4)
    ends = dict(bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=2, **sizes, **ends)).float()
    tok.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    task.write_data(folder, 0)


def overrides(made, where):
    return [
        "+cpu=tiny",
        f"actor_rollout_ref.model.path={made / 'model'}",
        f"data.train_files={made / 'train.parquet'}",
        f"data.val_files={made / 'test.parquet'}",
        "data.train_batch_size=8",
        f"data.max_response_length={LENGTH}",
        f"reward.custom_reward_function.path={Path(__file__).resolve()}",
        f"trainer.default_local_dir={where / 'checkpoints'}",
        f"trainer.total_training_steps={STEPS}",
        "actor_rollout_ref.rollout.name=hf",
        "actor_rollout_ref.rollout.max_model_len=256",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
    ]


def processor():
    """Seconds of every process that we started and that lives, Ray's own included."""
    spent = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            spent += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue
    return spent


def training(made, where, own):
    """Seconds of each step after the warm-up, by what they measure."""
    marks = []
    launch.train(where, [*overrides(made, where), *own], lambda line: marks.append(processor()), stall_seconds=420)
    lines = [line["data"] for line in launch.read_steps(where / "metrics.jsonl") if "timing_s/step" in line["data"]]
    spent = (marks[-1] - marks[WARM - 1]) / (len(marks) - WARM)
    step = [line["timing_s/step"] for line in lines[WARM:]]
    rest = [line["timing_s/step"] - line["timing_s/gen"] for line in lines[WARM:]]
    return {"processor": [spent], "step": step, "without sampling": rest}


def measure(place, rounds):
    made, seconds = place / "task", {name: {} for name in RUNS}
    make(made)
    for turn in range(rounds):
        for name in [*RUNS][:: -1 if turn % 2 else 1]:
            for what, each in training(made, place / f"{name.replace(' ', '_')}{turn}", RUNS[name]).items():
                seconds[name].setdefault(what, []).extend(each)
            print(name, turn, summary(seconds[name]), file=sys.stderr, flush=True)
    return {name: summary(each) for name, each in seconds.items()}


def summary(seconds):
    return {what: round(statistics.median(each), 4) for what, each in seconds.items()}


def main():
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    stock = found.pop("stock")
    beyond = {
        name: {what: round(each / stock[what] - 1, 4) for what, each in own.items()} for name, own in found.items()
    }
    print(json.dumps({"stock_s": stock, "beyond_stock": beyond}))


if __name__ == "__main__":
    main()
