"""What a step costs beside stock TRL's: paired trainings on the CPU, processor time of a step, smallest of many.

Run: make bench. One thread; a Qwen2 of four layers, 32 completions of 64 tokens a step. Prints one line of JSON: each
run's share of stock TRL's step, beyond it. Fails above 3 % where no pass of pi_old is added.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "hosts" / "trl"))

from transformers import Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl_runs import WORDS, config, stock, trainer

MOST, STEPS, ROUNDS = 0.03, 4, 6
# None: stock TRL; the last two look at the whole batch first
RUNS = {"stock": None, "monitor": {}, "repo_r": {"methods": ["repo_r"]}, "repo_neutral": {"methods": ["repo_neutral"]}}
FREE = ("monitor", "repo_r")


class Clock(TrainerCallback):
    """The smallest processor time of a step."""

    def __init__(self):
        self.best, self.began = float("inf"), 0.0

    def on_step_begin(self, *unused, **unread):
        self.began = time.process_time()

    def on_step_end(self, *unused, **unread):
        self.best = min(self.best, time.process_time() - self.began)


def model():
    torch.manual_seed(0)
    sizes = dict(hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4)
    ends = dict(eos_token_id=1, pad_token_id=0, bos_token_id=None)
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(WORDS), num_key_value_heads=2, **sizes, **ends))


def seconds(folder, entropo):
    changes = dict(per_device_train_batch_size=16, max_completion_length=64, max_steps=STEPS, logging_steps=100)
    changes["generation_kwargs"] = {"min_new_tokens": 64}
    args, clock = config(folder, entropo or {}, **changes), Clock()
    (trainer if entropo is not None else stock)(args, model=model(), callbacks=[clock]).train()
    return clock.best


def shares(folder):
    best = dict.fromkeys(RUNS, float("inf"))
    for turn in range(ROUNDS):
        # there and back, so that none always follows the same other
        for name in [*RUNS][:: 1 if turn % 2 else -1]:
            best[name] = min(best[name], seconds(folder, RUNS[name]))
    return {name: round(best[name] / best["stock"] - 1, 4) for name in RUNS if name != "stock"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        added = shares(place)
    print(json.dumps({"beyond stock TRL": added, "tokens a step": 2048}))
    if max(added[name] for name in FREE) > MOST:
        raise SystemExit(f"more than {MOST:.0%} of a step of stock TRL")
