"""What a step of real verl costs with ours beside stock GRPO, step by step in one training on the CPU.

Run: python tests/benchmarks/step_cost.py [ROUNDS]; a round is a step of stock verl, of the monitor, of 13 methods and
of stock again, in an order drawn anew each time: 90 seconds. Nothing else should run. A Qwen2 of four layers, hidden
size 128 and 2,048 tokens; 64 responses of up to 128 tokens a step. A model this small makes our share larger than a
real one would.

Prints one line of JSON. ``stock_s``: stock's median seconds a step; all else is a share of them. ``driver``: the time
of our code on the driver, less that of verl's methods which it calls; ``loss``: the seconds in the
workers' loss, forward, beyond stock's. These two are what ours costs. ``step`` is how much longer the whole step took
than stock's of the same round, the mean over rounds without the tenth at either end, and its standard error:
``stock again`` shows that chance does as much, which is why the other two are measured. Whole trainings, one after the
other, differed by 18 %.
"""

import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import alternating

from entropo_plugin import launch

ROUNDS, WARM = 3, 1
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


def overrides(made, where, rounds):
    return [
        "+cpu=tiny",
        "+entropo=monitor",
        "algorithm.adv_estimator=grpo",
        f"actor_rollout_ref.model.path={made / 'model'}",
        "actor_rollout_ref.actor.optim.lr=1e-6",
        f"data.train_files={made / 'train.parquet'}",
        f"data.val_files={made / 'test.parquet'}",
        "data.train_batch_size=8",
        f"data.max_response_length={LENGTH}",
        f"reward.custom_reward_function.path={Path(__file__).resolve()}",
        f"trainer.default_local_dir={where / 'checkpoints'}",
        f"trainer.total_training_steps={(rounds + WARM) * len(alternating.ARMS)}",
        "actor_rollout_ref.rollout.name=hf",
        "actor_rollout_ref.rollout.max_model_len=256",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
    ]


def training(place, rounds):
    """What was noted of the steps after the first round, by what it is and by the arm."""
    made, out = place / "task", place / "steps.jsonl"
    make(made)
    os.environ |= {
        alternating.OUT: str(out),
        "VERL_USE_EXTERNAL_MODULES": "alternating",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    launch.train(place / "run", overrides(made, place / "run", rounds), shown, stall_seconds=420)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    warm = [place for place, line in enumerate(lines) if line[0] == "step"][WARM * len(alternating.ARMS) - 1] + 1
    found = {}
    for what, name, *seconds in lines[warm:]:
        found.setdefault(what, {}).setdefault(name, []).append(seconds)
    return found


def shown(line):
    print(line["step"], end=" ", file=sys.stderr, flush=True)


def beyond(found, stock):
    """Paired by round: mean without the tenth at either end, and its standard error."""
    apart = sorted(mine - theirs for mine, theirs in zip(found, stock, strict=True))
    cut, unit = len(apart) // 10, statistics.median(stock)
    kept = apart[cut : len(apart) - cut]
    error = statistics.stdev(kept) / len(kept) ** 0.5 if len(kept) > 1 else float("nan")
    return [round(statistics.mean(kept) / unit, 4), round(error / unit, 4)]


def main():
    with tempfile.TemporaryDirectory() as place:
        found = training(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
    clocks = {name: [clock for clock, *_ in steps] for name, steps in found["step"].items()}
    stock = clocks.pop("stock")
    unit = statistics.median(stock)
    # as many steps of each: the sum over a step's micro-batches
    losses = {name: sum(each for (each,) in calls) / len(stock) for name, calls in found["loss"].items()}
    told = {"stock_s": round(unit, 4)}
    for name, steps in clocks.items():
        own = statistics.mean(driver for *_, driver in found["step"][name])
        told[name] = {"driver": round(own / unit, 5), "loss": round((losses[name] - losses["stock"]) / unit, 5)}
        told[name]["step"] = beyond(steps, stock)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
