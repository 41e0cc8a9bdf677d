"""What each policy loss costs beside verl's ``vanilla``: forward and backward of 64 responses x 8,192 tokens in fp32.

Run: make bench. One thread, timed in turn, processor time, best of seven. Prints one line of JSON: vanilla's seconds
and every other loss's share of them, verl's own two covariance losses included. All are averaged by verl's
``agg_loss``; responses have half the length to the whole, and one token in 500 is selected.
"""

import json
import time

import torch
from verl.trainer.ppo.core_algos import agg_loss, get_policy_loss_fn
from verl.workers.config import FSDPActorConfig

from entropo_plugin.objectives import PENALTIES, adapo, ce_gppo, clip_cov, kl_cov, unlikely_positive

ROWS, LENGTH, REPEATS = 64, 8192, 7


def batch():
    draw = torch.Generator().manual_seed(0)
    old = -(torch.rand(ROWS, LENGTH, generator=draw) ** 4) * 5
    logp = (old + 0.1 * torch.randn(ROWS, LENGTH, generator=draw)).requires_grad_()
    advantage = torch.randn(ROWS, 1, generator=draw).expand(ROWS, LENGTH).contiguous()
    mask = (torch.arange(LENGTH) < torch.randint(LENGTH // 2, LENGTH + 1, (ROWS, 1), generator=draw)).long()
    selected = torch.rand(ROWS, LENGTH, generator=draw) < 0.002
    return logp, old, advantage, mask, selected


def verls(name, fields):
    config = FSDPActorConfig(strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1)
    logp, old, advantage, mask, _ = fields
    return lambda: get_policy_loss_fn(name)(old, logp, advantage, mask, "token-mean", config)[0]


def ours(function, fields, *selected, **settings):
    def loss():
        return agg_loss(function(*fields[:4], *selected, **settings), fields[3], "token-mean")

    return loss


def losses(fields):
    clip, selected = {"low": 0.2, "high": 0.28}, fields[4]
    every = {f"verl's {name}": verls(name, fields) for name in ("vanilla", "clip_cov", "kl_cov")}
    every["adapo"] = ours(adapo, fields, **clip)
    every["adapo, bounded"] = ours(adapo, fields, **clip, ratio_bounds=(0.1, 5.0))
    every["ce_gppo"] = ours(ce_gppo, fields, **clip, keep_low=0.75, keep_high=1.0)
    every["unlikely_positive"] = ours(unlikely_positive, fields, **clip)
    every["clip_cov"] = ours(clip_cov, fields, selected)
    return every | {f"kl_cov, {kind}": ours(kl_cov, fields, selected, kind=kind) for kind in PENALTIES}


def seconds(loss, logp):
    began = time.process_time()
    loss().backward()
    logp.grad = None
    return time.process_time() - began


def main():
    torch.set_num_threads(1)
    fields = batch()
    every = losses(fields)
    rounds = [{name: seconds(loss, fields[0]) for name, loss in every.items()} for _ in range(REPEATS)]
    best = {name: min(each[name] for each in rounds) for name in every}
    vanilla = best.pop("verl's vanilla")
    print(json.dumps({"vanilla_s": round(vanilla, 4)} | {name: round(s / vanilla, 2) for name, s in best.items()}))


if __name__ == "__main__":
    main()
