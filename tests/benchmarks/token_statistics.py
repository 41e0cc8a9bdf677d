"""What token statistics cost beside verl's entropy and log-probs from the same logits: 256 rows of 151,936 entries.

Run: make bench. One thread, timed in turn, processor time, best of three. Prints one line of JSON for each dtype:
verl's seconds, ours (all four statistics) and how many times faster that is, also with the backward pass of
log-prob and entropy, for 64 rows; and the largest error of the two against fp64, in nats.
"""

import json
import time

import torch
from verl.utils.torch_functional import entropy_from_logits_with_chunking, logprobs_from_logits

from entropo_plugin.objectives import token_statistics

ROWS, VOCABULARY, FEW = 256, 151_936, 64


def verl(logits, tokens):
    return logprobs_from_logits(logits, tokens), entropy_from_logits_with_chunking(logits)


def in_turn(*functions, repeats=3):
    """Least processor time of each."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for place, function in enumerate(functions):
            began = time.process_time()
            function()
            best[place] = min(best[place], time.process_time() - began)
    return best


def with_backward(function, logits, tokens):
    at = logits[:FEW].clone().requires_grad_()

    def run():
        at.grad = None
        log_prob, entropy, *_ = function(at, tokens[:FEW])
        (log_prob.sum() + entropy.sum()).backward()

    return run


def errors(function, logits, tokens):
    level = logits[:FEW].double().log_softmax(1)
    exact = level.gather(1, tokens[:FEW, None])[:, 0], -(level.exp() * level).sum(1)
    computed = function(logits[:FEW], tokens[:FEW])
    return max(float((each.double() - right).abs().max()) for each, right in zip(computed, exact, strict=False))


def measure(logits, tokens):
    both = (verl, token_statistics)
    forward = in_turn(*(lambda each=each: each(logits, tokens) for each in both))
    backward = in_turn(*(with_backward(each, logits, tokens) for each in both))
    return {
        "dtype": str(logits.dtype).removeprefix("torch."),
        "verl_s": round(forward[0], 3),
        "ours_s": round(forward[1], 3),
        "times_faster": round(forward[0] / forward[1], 1),
        "with_backward": round(backward[0] / backward[1], 1),
        "verl_error": float(f"{errors(verl, logits, tokens):.1e}"),
        "our_error": float(f"{errors(token_statistics, logits, tokens):.1e}"),
    }


def main():
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(ROWS, VOCABULARY, generator=draw)
    logits[:, :8] += 12
    tokens = torch.randint(0, 8, (ROWS,), generator=draw)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        print(json.dumps(measure(logits.to(dtype), tokens)), flush=True)


if __name__ == "__main__":
    main()
