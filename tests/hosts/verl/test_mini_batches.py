"""The mini-batch scope: the same blocks that verl cuts, each with its own means and quota."""

import torch
from runs import run_of
from tensordict import TensorDict
from verl.utils.tensordict_utils import make_iterator

from entropo_plugin.hosts.verl.driver.tokens import mini_batches
from entropo_plugin.methods import Tokens
from entropo_plugin.pipeline import prepare_batch


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
    logp = -torch.rand(8, 5, generator=draw, dtype=torch.float64)
    advantage = torch.randn(8, 1, generator=draw, dtype=torch.float64).expand(8, 5).clone()
    keys, parts = [f"prompt_{i}_0" for i in range(8)], mini_batches(8, 1, 4)

    def prepared(scope):
        run = run_of("kl_cov", kl_cov={"ratio": 0.15, "scope": scope})
        return prepare_batch(run, Tokens(logp, torch.ones(8, 5), logp, advantage, keys=keys, step=1, parts=parts))

    cut, whole = prepared("mini_batch"), prepared("global")
    chosen = cut.selected["kl_cov"]
    assert [int(chosen[rows].sum()) for rows in parts] == [3, 3] and cut.metrics["entropo/selection/share"] == 6 / 40
    assert int(whole.selected["kl_cov"].sum()) == 6
    cov = (logp[:4] - logp[:4].mean()) * (advantage[:4] - advantage[:4].mean())
    assert torch.equal(chosen[:4], cov >= cov.flatten().topk(3).values[-1])


def test_small_batches_by_hand():
    assert [rows.tolist() for rows in mini_batches(8, 2, 4)] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert [rows.tolist() for rows in mini_batches(4, 1, 2)] == [[0, 1], [2, 3]]
