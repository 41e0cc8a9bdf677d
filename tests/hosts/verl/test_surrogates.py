"""Our surrogates against verl's own functions, bit for bit where the settings are verl's."""

import math
from types import SimpleNamespace

import pytest
import torch
from verl.trainer.ppo import core_algos

from entropo_plugin.objectives import AGGREGATION_MODES, adapo, clip_cov, kl_cov, micro_band, micro_top, token_weights


class ActorSettings(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


def settings(low=0.2, high=0.28, **policy_loss):
    return ActorSettings(
        clip_ratio=0.2, clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=3.0, global_batch_info={},
        policy_loss=SimpleNamespace(**policy_loss),
    )  # fmt: skip


def batch(seed, scale=0.7, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    old = -torch.rand(6, 11, generator=draw) * 4
    logp = (old + torch.randn(6, 11, generator=draw) * scale).to(dtype)
    advantage = torch.randn(6, 1, generator=draw).expand(6, 11).to(dtype).clone()
    mask = (torch.arange(11)[None] < torch.randint(1, 12, (6, 1), generator=draw)).long()
    weight = torch.rand(6, 11, generator=draw).to(dtype)
    return logp, old.to(dtype), advantage, mask, weight


def both(ours, verls, logp):
    """Loss and gradient of each."""
    found = []
    for loss in (ours, verls):
        at = logp.clone().requires_grad_()
        value = loss(at)
        found += [value.detach(), *torch.autograd.grad(value, at)]
    return found


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"])
@pytest.mark.parametrize("scale", [0.1, 0.7, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(5))
def test_adapo_is_vanilla_bit_for_bit(mode, scale, weighted, dtype, seed):
    logp, old, advantage, mask, weight = batch(seed, scale, dtype)
    weight = weight if weighted else None

    def ours(at):
        loss = adapo(at, old, advantage, mask, low=0.2, high=0.28, dual=3.0, weight=weight)
        return core_algos.agg_loss(loss, mask, mode)

    def verls(at):
        return core_algos.compute_policy_loss_vanilla(old, at, advantage, mask, mode, settings(), weight)[0]

    loss, gradient, expected, expected_gradient = both(ours, verls, logp)
    assert torch.equal(loss, expected) and torch.equal(gradient, expected_gradient)


@pytest.mark.stock
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_kl_cov_by_micro_batch_is_verls_bit_for_bit(weighted, seed):
    logp, old, advantage, mask, weight = batch(seed)
    weight = weight if weighted else None
    config = settings(kl_cov_ratio=0.1, ppo_kl_coef=0.7)

    def ours(at):
        chosen = micro_top(at, advantage, mask, 0.1)
        loss = kl_cov(at, old, advantage, mask, chosen, beta=0.7, weight=weight, weigh_penalty=True)
        return core_algos.agg_loss(loss, mask, "token-mean")

    def verls(at):
        return core_algos.compute_policy_loss_kl_cov(old, at, advantage, mask, "token-mean", config, weight)[0]

    loss, gradient, expected, expected_gradient = both(ours, verls, logp)
    assert torch.equal(loss, expected) and torch.equal(gradient, expected_gradient)


@pytest.mark.stock
@pytest.mark.parametrize("clip", [(1.0, 1.0), (0.2, 0.2)])
@pytest.mark.parametrize("seed", range(5))
def test_clip_cov_by_micro_batch_is_verls_bit_for_bit(clip, seed):
    logp, old, advantage, mask, _ = batch(seed)
    config = settings(*clip, clip_cov_ratio=0.1, clip_cov_lb=0.1, clip_cov_ub=5.0)

    def ours(at):
        torch.manual_seed(seed)
        chosen = micro_band(at, old, advantage, mask, 0.1, (0.1, 5.0), clip)
        loss = clip_cov(at, old, advantage, mask, chosen, low=clip[0], high=clip[1])
        return core_algos.agg_loss(loss, mask, "token-mean")

    def verls(at):
        torch.manual_seed(seed)
        return core_algos.compute_policy_loss_clip_cov(old, at, advantage, mask, "token-mean", config)[0]

    loss, gradient, expected, expected_gradient = both(ours, verls, logp)
    assert torch.equal(loss, expected) and torch.equal(gradient, expected_gradient)


@pytest.mark.stock
def test_the_golden_vector_is_verls():
    old = torch.tensor([[-0.1, -2, -0.05, -3], [-0.2, -4, -0.01, -9]])
    logp = torch.tensor([[-0.12, -1.8, -0.05, -3.3], [-0.2, -4.5, -0.02, -9]])
    advantage, mask = torch.tensor([[1.5] * 4, [-0.5] * 4]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    config = settings(1.0, 1.0, clip_cov_ratio=0.5, clip_cov_lb=1.0, clip_cov_ub=5.0, kl_cov_ratio=0.3, ppo_kl_coef=1.0)
    found = [
        float(loss(old, logp, advantage, mask, "token-mean", config)[0])
        for loss in (core_algos.compute_policy_loss_clip_cov, core_algos.compute_policy_loss_kl_cov)
    ]
    assert found == pytest.approx([-0.2783296, -0.5879058], abs=1e-6)


@pytest.mark.stock
def test_verls_kl_cov_is_infinite_where_ours_is_not():
    logp, old = torch.tensor([[95.0, -1.0]]), torch.tensor([[0.0, -1.0]])
    advantage, mask = torch.tensor([[1.0, -1.0]]), torch.ones(1, 2)
    config = settings(kl_cov_ratio=0.5, ppo_kl_coef=1.0)
    assert core_algos.compute_policy_loss_kl_cov(old, logp, advantage, mask, "token-mean", config)[0] == -math.inf
    assert kl_cov(logp, old, advantage, mask, mask.bool()).isfinite().all()


@pytest.mark.parametrize("mode", AGGREGATION_MODES)
def test_weights_of_tokens_are_those_of_verl(mode):
    mask, loss = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).double(), torch.randn(3, 4).double()
    weight, uniform = token_weights(mask, mode), core_algos.agg_loss(torch.ones(3, 4).double(), mask, mode)
    assert float(weight.sum()) == pytest.approx(1.0) and not weight[mask == 0].any()
    assert float((weight * loss).sum()) == pytest.approx(
        float(core_algos.agg_loss(loss, mask, mode) / uniform), rel=1e-6
    )
