"""What a step of real verl costs with ours beside stock GRPO: trainings on the CPU in turn, verl's own seconds a step.

Run: python tests/benchmarks/step_cost.py [ROUNDS]; each training takes about a minute, each round runs all of them, the
next one backwards. A Qwen2 of four layers, hidden size 128 and 2,048 tokens; 64 responses of up to 128 tokens a step. A
model this small makes our share larger than a real one would.

Prints one line of JSON: the median of stock's seconds a step, and each run's median beyond stock's as a share of it: of
the whole step, and of the step without sampling, which varies most. `stock again` is stock against itself: the noise.
"""

import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

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
STEPS, WARM = 9, 3
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


def steps(made, where, own):
    """Seconds of each step after the warm-up: all of it, and without sampling."""
    launch.train(where, [*overrides(made, where), *own], lambda line: None, stall_seconds=420)
    lines = [line["data"] for line in launch.read_steps(where / "metrics.jsonl")]
    timed = [line for line in lines if "timing_s/step" in line][WARM:]
    return [(line["timing_s/step"], line["timing_s/step"] - line["timing_s/gen"]) for line in timed]


def measure(place, rounds):
    made, seconds = place / "task", {name: [] for name in RUNS}
    make(made)
    for turn in range(rounds):
        for name in [*RUNS][:: -1 if turn % 2 else 1]:
            seconds[name] += steps(made, place / f"{name.replace(' ', '_')}{turn}", RUNS[name])
            print(name, turn, medians(seconds[name]), file=sys.stderr, flush=True)
    return {name: medians(each) for name, each in seconds.items()}


def medians(seconds):
    return [round(statistics.median(part), 4) for part in zip(*seconds, strict=True)]


def beyond(own, stock):
    return [round(part / base - 1, 4) for part, base in zip(own, stock, strict=True)]


def main():
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    stock = found.pop("stock")
    print(json.dumps({"stock_s": stock, "beyond_stock": {name: beyond(own, stock) for name, own in found.items()}}))


if __name__ == "__main__":
    main()
