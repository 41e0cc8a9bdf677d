"""Every method, every loss and the token statistics on a GPU, beside the CPU: what differs, and what it costs there.

Run on a machine with a GPU: PYTHONPATH=. python tests/benchmarks/on_gpu.py FOLDER. Three CSV files:

- ``methods.csv``: 64 responses of at most 1,024 tokens through a method's whole step, on both devices in fp32 and on
  the CPU in fp64. Tokens chosen otherwise than in fp64, and the largest error of advantages and of the loss's gradient,
  relative to the largest value; on the GPU twice, for results that change from one time to the next.
- ``statistics.csv``: log-prob and entropy of 4,096 rows of 151,936 logits, verl's and ours (kernels): milliseconds,
  memory beside the logits, error against fp64 in nats, and the same with the backward pass.
- ``losses.csv``: forward and backward of 64 x 8,192 tokens, as a multiple of verl's ``vanilla``.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from loss_cost import batch as loss_batch
from loss_cost import losses
from token_statistics import verl

from entropo_plugin.config import parse
from entropo_plugin.methods import Host, Tokens, registry
from entropo_plugin.methods.active import activate
from entropo_plugin.objectives import token_statistics
from entropo_plugin.pipeline import drop, loss_owner, penalties, prepare_batch, select, shape
from entropo_plugin.run import Run

ROWS, LENGTH = 64, 1024
MANY, VOCABULARY, EXACT = 4096, 151_936, 64
# what a method needs beside its name
SETTINGS = {
    "clip_cov": {"clip_cov": {"ratio": 0.002, "low": 0.01, "high": 5.0}},
    "kl_cov": {"kl_cov": {"ratio": 0.002}},
    "entropic": {"entropic": {"probability": 0.5}, "target": {"kind": "value", "value": 1.2}},
    "entropy_bonus": {"entropy_coeff": {"initial": 0.01, "law": "fixed"}},
    "repo_r matched": {"repo": {"zeta": {"law": "matched"}}},
}
FACTS = {
    "quantile_baseline": {"estimator": "quantile_baseline"},
    "negative_reinforce": {"estimator": "negative_reinforce"},
}
ENTROPIES = (1.0, 0.7, 0.5)
VANILLA = "verl's vanilla"


def batch(device, dtype):
    """Responses of many lengths; log-probs of every size, group advantages, a reference."""
    draw = torch.Generator().manual_seed(5)
    normal = lambda *size: torch.randn(*size, generator=draw, dtype=torch.float32)  # noqa: E731
    old = -(normal(ROWS, LENGTH).abs() ** 3)
    lengths = torch.randint(1, LENGTH + 1, (ROWS, 1), generator=draw)
    fields = {
        "log_prob": old + 0.1 * normal(ROWS, LENGTH),
        "old_log_prob": old,
        "advantage": normal(ROWS, 1).expand(ROWS, LENGTH).contiguous(),
        "entropy": normal(ROWS, LENGTH).abs(),
        "ref_log_prob": old + 0.3 * normal(ROWS, LENGTH),
        "reward": normal(ROWS),
    }
    there = {name: value.to(device, dtype) for name, value in fields.items()}
    others = {"mask": (torch.arange(LENGTH) < lengths).long(), "group": torch.arange(ROWS) // 8}
    parts = [torch.arange(ROWS // 2), torch.arange(ROWS // 2, ROWS)]
    keys = [f"r{row}" for row in range(ROWS)]
    return Tokens(keys=keys, parts=parts, **there, **{name: value.to(device) for name, value in others.items()})


def step(name, device, dtype):
    """The third step's chosen tokens, advantages and gradients of loss and penalties, on the CPU in fp64."""
    method = name.split()[0]
    settings = parse({"methods": [method]} | SETTINGS.get(name, {}))
    run = Run(activate(settings, Host(**({"estimator": "grpo"} | FACTS.get(method, {})))), settings)
    for number, entropy in enumerate(ENTROPIES, 1):
        tokens = replace(batch(device, dtype), step=number)
        run.loop.observe(entropy * 1000, 1000)
        made = one_step(run, tokens)
        run.loop.updated = True
        run.end_step(number)
    return {kind: value.detach().double().cpu() for kind, value in made.items()}


def one_step(run, tokens):
    prepared = prepare_batch(run, replace(tokens, log_prob=tokens.old_log_prob))
    logp, entropy = tokens.log_prob.requires_grad_(), tokens.entropy.requires_grad_()
    late, now = replace(tokens, log_prob=logp, entropy=entropy, advantage=prepared.advantage), run.coefficients()
    late = replace(late, advantage=shape(run.methods, late, now, "worker"))
    chosen = prepared.selected | select(run.methods, late, now, ("micro_batch",))[0]
    advantage = drop(run.methods, late.advantage, chosen)
    owner, added = loss_owner(run.methods), penalties(run.methods, late, now, chosen)
    # without a loss of its own the method acts on the host's: here the plain policy gradient
    loss = -(advantage * (logp - tokens.old_log_prob).exp() * tokens.mask)
    if owner is not None:
        loss = owner.loss(replace(late, advantage=advantage), now[owner.name], chosen.get(owner.name))
    total = (loss if added is None else loss + added).sum()
    slopes = torch.autograd.grad(total, (logp, entropy), allow_unused=True)
    made = {f"chosen_{name}": value for name, value in chosen.items()} | {"advantage": advantage}
    return made | {f"gradient_{place}": each for place, each in enumerate(slopes) if each is not None}


def off(found, right):
    """Largest error relative to the largest value; and tokens that only one of the two has chosen."""
    flips = sum(int((found[name] != right[name]).sum()) for name in right if name.startswith("chosen"))
    errors = [
        float((found[name] - right[name]).abs().max() / right[name].abs().max().clamp(min=1e-30))
        for name in right
        if not name.startswith("chosen")
    ]
    return flips, max(errors)


def methods():
    """A row a method."""
    for name in sorted([*registry.known(), "repo_r matched"]):
        right = step(name, "cpu", torch.float64)
        there, again = (step(name, "cuda", torch.float32) for _ in range(2))
        here = step(name, "cpu", torch.float32)
        same = all(torch.equal(there[kind], again[kind]) for kind in right)
        count = sum(int(right[kind].sum()) for kind in right if kind.startswith("chosen"))
        yield [name, count, *off(here, right), *off(there, right), *off(there, here), same]


def milliseconds(function, repeats=10):
    """Median of the device's own clock, and the peak of its memory beside what was there, in bytes."""
    function()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return median(times), torch.cuda.max_memory_allocated() - before


def with_backward(function, logits, tokens):
    at = logits.detach().requires_grad_()

    def run():
        at.grad = None
        log_prob, entropy, *_ = function(at, tokens)
        (log_prob.sum() + entropy.sum()).backward()

    return run


def error(function, logits, tokens):
    level = logits[:EXACT].double().log_softmax(1)
    right = level.gather(1, tokens[:EXACT, None])[:, 0], -(level.exp() * level).sum(1)
    found = function(logits[:EXACT].clone(), tokens[:EXACT])
    return max(float((each.double() - exact).abs().max()) for each, exact in zip(found, right, strict=False))


def statistics():
    """A row a dtype and a function; beside them the time that a copy of the logits takes, the floor of one reading."""
    draw = torch.Generator("cuda").manual_seed(0)
    for dtype in (torch.bfloat16, torch.float32):
        logits = 3 * torch.randn(MANY, VOCABULARY, generator=draw, device="cuda", dtype=torch.float32)
        logits[:, :8] += 12
        logits, tokens = logits.to(dtype), torch.randint(0, 8, (MANY,), generator=draw, device="cuda")
        target = torch.empty_like(logits)
        # a copy reads and writes: half of its time is one reading
        floor = milliseconds(lambda to=target, source=logits: to.copy_(source))[0] / 2
        del target
        for name, function in (("verl", verl), ("ours", token_statistics)):
            forward, memory = milliseconds(lambda f=function, z=logits, y=tokens: f(z, y))
            both, most = milliseconds(with_backward(function, logits, tokens))
            numbers = [floor, forward, memory / 2**20, both, most / 2**20]
            wrong = f"{error(function, logits, tokens):.1e}"
            yield [str(dtype).removeprefix("torch."), name, *(f"{each:.4g}" for each in numbers), wrong]


def loss_costs():
    """A row a loss, in turn, as a multiple of vanilla."""
    fields = [each.detach().cuda() for each in loss_batch()]
    fields[0].requires_grad_()
    every = losses(fields)

    def run(loss):
        fields[0].grad = None
        loss().backward()

    found = {name: milliseconds(lambda each=loss: run(each))[0] for name, loss in every.items()}
    for name, took in found.items():
        yield [name, f"{took:.3f}", f"{took / found[VANILLA]:.2f}"]


FILES = {
    "statistics": (
        [
            "dtype",
            "whose",
            "one_reading_ms",
            "forward_ms",
            "forward_mib",
            "backward_too_ms",
            "backward_too_mib",
            "error",
        ],
        statistics,
    ),
    "losses": (["loss", "ms", "of_vanilla"], loss_costs),
    "methods": (
        [
            "method",
            "chosen",
            "cpu_flips",
            "cpu_error",
            "gpu_flips",
            "gpu_error",
            "apart_flips",
            "apart_error",
            "repeats",
        ],
        methods,
    ),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, (head, rows) in FILES.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            file.write(f"# {torch.cuda.get_device_name()}; torch {torch.__version__}\n")
            out = csv.writer(file, lineterminator="\n")
            out.writerow(head)
            for row in rows():
                out.writerow(row)
                file.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
