"""What monitoring costs a global step of 64 responses x 8,192 tokens: the driver's seconds, and traffic beyond verl's.

Run: make bench. One thread, fp32 fields, verl's own trainer methods on the driver with TransferQueue replaced by a
dictionary that counts bytes. Time is the processor's, best of five steps: what we do on the driver, listening included.
Prints one line of JSON; fails above 1 % of the model work or above 2 bytes per token.

The model work is what a step cannot do without: 6 N floating-point operations per token for the update and 2 N for the
log-probs of pi_old, N = 7.6e9 parameters, on eight GPUs of 989e12 bf16 operations a second at 40 % of them; and for
sampling one reading of the bf16 weights per position, split over the eight GPUs, at their full 3.35e12 bytes a second.
Neither attention, a reference model, waiting for the longest response nor loading is counted, each of which would
make our share smaller.
"""

import json
import sys
import time
from pathlib import Path

import torch
import transfer_queue as tq

sys.path.insert(0, str(Path(__file__).parents[1] / "hosts" / "verl"))

from driver_step import driver, one_step, sampled

PARAMETERS, PEAK, USED, GPUS, BANDWIDTH = 7.6e9, 989e12, 0.4, 8, 3.35e12
RESPONSES, LENGTH = 64, 8192
SHARE, BYTES = 0.01, 2.0
SETTINGS = [f"data.max_response_length={LENGTH}", "actor_rollout_ref.rollout.calculate_log_probs=true"]


def model_seconds(tokens):
    sampling = LENGTH * 2 * PARAMETERS / (GPUS * BANDWIDTH)
    return sampling + 8 * PARAMETERS * tokens / (GPUS * PEAK * USED)


def made(ours):
    rows = sampled(prompts=8, samples=RESPONSES // 8, length=LENGTH, full=True)
    trainer, queue = driver(rows, *SETTINGS, ours=ours)
    tq.kv_batch_get, tq.kv_batch_put = queue.kv_batch_get, queue.kv_batch_put
    return trainer, queue


def traffic(ours):
    """Bytes that the driver fetches and writes in a step."""
    trainer, queue = made(ours)
    one_step(trainer)
    return queue.fetched + queue.written


def seconds(repeats):
    """Processor time of our part of each step."""
    trainer, _ = made(True)
    trainer.watch.clock = time.process_time
    take = trainer.cache.take

    def timed(*args):
        with trainer.watch:
            take(*args)

    trainer.cache.take = timed
    return [one_step(trainer)["entropo/monitor/seconds"] for _ in range(repeats)]


def measure(repeats=5):
    torch.set_num_threads(1)
    tokens = RESPONSES * LENGTH
    stock, ours, spent = traffic(False), traffic(True), min(seconds(repeats))
    model = model_seconds(tokens)
    return {
        "tokens": tokens,
        "monitor_s": round(spent, 4),
        "model_s_assumed": round(model, 2),
        "share": round(spent / model, 5),
        "verl_bytes_per_token": round(stock / tokens, 2),
        "added_bytes_per_token": round((ours - stock) / tokens, 2),
    }


if __name__ == "__main__":
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    print(json.dumps(found))
    sys.exit(found["share"] > SHARE or found["added_bytes_per_token"] > BYTES)
