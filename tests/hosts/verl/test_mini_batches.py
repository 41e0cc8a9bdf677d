"""The mini-batch scope: the same blocks that verl cuts, each with its own means and quota."""

import torch
from tensordict import TensorDict
from verl.utils.tensordict_utils import make_iterator

from entropo_plugin.config import parse
from entropo_plugin.hosts.verl.driver.shaping import mini_batches, select_tokens
from entropo_plugin.hosts.verl.run import Run
from entropo_plugin.hosts.verl.startup.plan import Plan


def test_the_blocks_are_those_of_verls_iterator_on_every_rank():
    rows, ranks, size = 24, 2, 8
    found = mini_batches(rows, ranks, size)
    theirs = [[] for _ in found]
    for rank in range(ranks):
        block = TensorDict({"row": torch.arange(rows).chunk(ranks)[rank]}, batch_size=rows // ranks)
        cut = make_iterator(block, size // ranks, 1, seed=1, dataloader_kwargs={"shuffle": False})
        for number, each in enumerate(cut):
            theirs[number] += each["row"].tolist()
    assert [sorted(each.tolist()) for each in found] == [sorted(each) for each in theirs]
    assert found[0].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]


def test_each_mini_batch_has_its_own_quota_and_the_global_scope_one():
    draw = torch.Generator().manual_seed(0)
    data = {
        "old_log_probs": -torch.rand(8, 5, generator=draw, dtype=torch.float64),
        "advantages": torch.randn(8, 1, generator=draw, dtype=torch.float64).expand(8, 5).clone(),
        "response_mask": torch.ones(8, 5),
    }
    run = Run(Plan(None, parse({"kl_cov": {"ratio": 0.15}}), 1e-4, 0.05, "entropo_kl_cov"))
    keys = [f"prompt_{i}_0" for i in range(8)]
    parts = mini_batches(8, 1, 4)
    chosen, metrics = select_tokens(data, keys, run, 1, parts)
    assert [int(chosen[rows].sum()) for rows in parts] == [3, 3] and metrics["entropo/selection/share"] == 6 / 40
    assert int(select_tokens(data, keys, run, 1)[0].sum()) == 6
    logp, advantage = data["old_log_probs"][:4], data["advantages"][:4]
    cov = (logp - logp.mean()) * (advantage - advantage.mean())
    assert torch.equal(chosen[:4], cov >= cov.flatten().topk(3).values[-1])
