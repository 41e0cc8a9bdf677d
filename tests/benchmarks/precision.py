"""How far rounding moves a token's entropy, and how many log-probs lie on the bf16 grid: the figures of precision.py.

Run: python tests/benchmarks/precision.py (a minute on one core). Logits of 151,936 tokens: normal noise, and
thirty-two plausible tokens far above it, spread so that the mean entropy is what trained policies have. fp64 on the
unrounded logits is the truth. Printed: the root mean square error over states, and the share of log-probs larger than
.01 in size that bf16 represents exactly, of tokens that the policy samples and of tokens below the likeliest that
another policy may have written.
"""

import torch

from entropo_plugin.monitor.precision import bf16_share

VOCABULARY, PLAUSIBLE, STATES = 151_936, 32, 96
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def true_logits(spread: float, height: float = 18, depth: float = 0, seed: int = 0) -> torch.Tensor:
    """``(states, vocabulary)`` fp64 logits around ``height`` for the plausible tokens and ``-depth`` for the others."""
    make = torch.Generator().manual_seed(seed)
    logits = torch.randn(STATES, VOCABULARY, generator=make, dtype=torch.float64) - depth
    logits[:, :PLAUSIBLE] = height + spread * torch.randn(STATES, PLAUSIBLE, generator=make, dtype=torch.float64)
    return logits


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """As verl computes it: ``logsumexp(z) - sum softmax(z) z``, in the dtype of the logits."""
    return logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)


def rms(values: torch.Tensor, truth: torch.Tensor) -> float:
    return float((values.double() - truth).square().mean().sqrt())


def entropy_errors(spread: float, height: float) -> None:
    logits = true_logits(spread, height)
    truth = entropy(logits)
    print(f"\nlogits to {float(logits.max()):.0f}, mean entropy {float(truth.mean()):.2f}: error of one entropy, rms")
    for stored, maths in (("bf16", "bf16"), ("bf16", "fp32"), ("fp16", "fp32"), ("fp32", "fp32")):
        kept = logits.to(DTYPES[stored])
        found = entropy(kept.to(DTYPES[maths]))
        own = rms(found, entropy(kept.double()))
        print(f"  logits {stored}, maths {maths}: {rms(found, truth):.5f}; against fp64 on the same logits {own:.5f}")


def grid_shares(spread: float) -> None:
    logits = true_logits(spread, depth=25, seed=1)
    sampled = torch.multinomial(logits.softmax(-1), 64, replacement=True, generator=torch.Generator().manual_seed(2))
    below = logits.amax(-1, keepdim=True) - logits
    print(f"\nspread {spread}: share of log-probs on the bf16 grid")
    for stored, maths in (("bf16", "bf16"), ("bf16", "fp32"), ("fp32", "fp32")):
        kept = logits.to(DTYPES[stored]).to(DTYPES[maths])
        logp = kept - kept.logsumexp(-1, keepdim=True)
        line = f"  logits {stored}, maths {maths}: sampled {share(logp.gather(-1, sampled)):.3f}"
        for nats in (2, 8, 17):
            line += f", {nats} nats below the likeliest {share(logp[(below - nats).abs() < 1]):.3f}"
        print(line)


def another_policys_tokens() -> None:
    """One token holds all of p; a token 17 nats below it, which this policy would not write, has log p = z - max z."""
    print("\none token left: share of log-probs on the bf16 grid, tokens 17 nats below it, maths fp32")
    for top in (20, 9):
        logits = true_logits(1.0, height=top - 17, depth=60)
        drawn = torch.randn(STATES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        logits[:, 0] = top + drawn
        for stored in ("bf16", "fp32"):
            kept = logits.to(DTYPES[stored]).float()
            logp = (kept - kept.logsumexp(-1, keepdim=True))[:, 1:PLAUSIBLE]
            print(f"  likeliest logit about {top}, logits {stored}: {share(logp):.3f}")


def share(logp: torch.Tensor) -> float:
    found = bf16_share(logp)
    return float("nan") if found is None else found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in (1.0, 3.0, 6.0):
        entropy_errors(each, 18)
    entropy_errors(3.0, 40)
    entropy_errors(3.0, 70)
    for each in (1.0, 6.0, 12.0):
        grid_shares(each)
    another_policys_tokens()
