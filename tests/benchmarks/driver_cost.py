"""What the driver's part of one step costs: choosing, measuring and shaping 10^5 to 10^7 response tokens.

Run: make bench. Prints one line of JSON for each method, and for two together: the processor's seconds for every size
(best of three; torch has two threads, of which the driver uses one), and at the largest size the peak of memory beyond
the batch in bytes a token.
"""

import json
import threading
import time

import psutil
import torch

from entropo_plugin.config import parse
from entropo_plugin.methods import Host
from entropo_plugin.methods.active import activate
from entropo_plugin.methods.base import Tokens
from entropo_plugin.pipeline import prepare_batch
from entropo_plugin.run import Run

METHODS = {
    "repo_r": {"repo": {"zeta": {"law": "matched"}}},
    "repo_neutral": {},
    "clip_cov": {"clip_cov": {"ratio": 0.0002}},
    "kl_cov": {"kl_cov": {"ratio": 0.0002}},
    "top_entropy": {},
    "repo_neutral, clip_cov": {"clip_cov": {"ratio": 0.0002}},
}
LENGTH = 8192
SIZES = (10**5, 10**6, 10**7)


def batch(size):
    rows = max(1, round(size / LENGTH))
    draw = torch.Generator().manual_seed(0)
    logp = -(torch.rand(rows, LENGTH, generator=draw) ** 4) * 5
    advantage = torch.randn(rows, 1, generator=draw).expand(rows, LENGTH).contiguous()
    mask = torch.ones(rows, LENGTH, dtype=torch.bool)
    entropy = torch.rand(rows, LENGTH, generator=draw)
    keys, group = [f"r{row}" for row in range(rows)], torch.arange(rows) // 8
    return Tokens(logp, mask, logp, advantage, entropy, ref_log_prob=logp, keys=keys, group=group, step=1)


def run_of(method):
    settings = parse({"methods": method.split(", ")} | METHODS[method])
    run = Run(activate(settings, Host(estimator="grpo")), settings)
    run.loop.observe(5.0, 10)
    return run


def seconds(method, tokens, repeats):
    best = float("inf")
    for _ in range(repeats):
        run = run_of(method)
        began = time.process_time()
        prepare_batch(run, tokens)
        best = min(best, time.process_time() - began)
    return best


def peak_bytes(method, tokens):
    """Peak of the process's memory while the driver works, beyond what it held before, in bytes a token."""
    this, ended = psutil.Process(), threading.Event()
    before = peak = this.memory_info().rss

    def look():
        nonlocal peak
        while not ended.wait(0.001):
            peak = max(peak, this.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    prepare_batch(run_of(method), tokens)
    ended.set()
    watcher.join()
    return (peak - before) / tokens.mask.numel()


def main():
    torch.set_num_threads(2)
    sizes = {size: batch(size) for size in SIZES}
    for method in METHODS:
        took = {str(size): round(seconds(method, tokens, 3), 4) for size, tokens in sizes.items()}
        peak = peak_bytes(method, sizes[SIZES[-1]])
        print(json.dumps({"method": method, "seconds": took, "bytes_per_token": round(peak, 1)}), flush=True)


if __name__ == "__main__":
    main()
