"""One batch, cut in every way that verl can cut it: the same tokens chosen, the same advantages, losses and gradients.

verl's own ``clip_cov`` and ``kl_cov`` under the same cuts are shown to differ.
"""

import random

import harness
import pytest
import torch
from processes import Processes
from verl.trainer.ppo.core_algos import compute_policy_loss_kl_cov

from entropo_plugin.hosts.verl.worker.loss import SELECTED
from entropo_plugin.objectives import covariance, micro_top, select_top, token_keys

ACTOR = harness.ACTOR
# the whole rollout batch is one mini-batch: whichever rank or row order, an update sees the same rows; twice, so that
# the second finds ratios other than 1
WHOLE = {"actor_rollout_ref__actor__ppo_mini_batch_size": 4, "actor_rollout_ref__actor__ppo_epochs": 2}
MICRO = "actor_rollout_ref__actor__ppo_micro_batch_size_per_gpu"
DYNAMIC = {
    "actor_rollout_ref__actor__use_dynamic_bsz": True,
    "actor_rollout_ref__actor__ppo_max_token_len_per_gpu": 40,
}
SECONDS = "entropo/monitor/seconds"
CUTS = {
    "micro_1": ({MICRO: 1}, 1, False),
    "micro_2": ({MICRO: 2}, 1, False),
    "micro_4": ({MICRO: 4}, 1, False),
    "micro_8": ({MICRO: 8}, 1, False),
    "dynamic": (DYNAMIC, 1, False),
    "two_ranks": ({MICRO: 4}, 2, False),
    "two_ranks_micro_1": ({MICRO: 1}, 2, False),
    "two_ranks_dynamic": (DYNAMIC, 2, False),
    "eight_ranks": ({MICRO: 2}, 8, False),
    "shuffled": ({MICRO: 4}, 1, True),
    "shuffled_dynamic_two_ranks": (DYNAMIC, 2, True),
    "shuffled_dynamic_eight_ranks": (DYNAMIC, 8, True),
}
CLIP_COV = {
    "entropo__clip_cov__ratio": 0.2,
    "entropo__clip_cov__band": "quantile",
    "entropo__clip_cov__low_quantile": 0.3,
    "entropo__clip_cov__high_quantile": 1.0,
}
KL_COV = {"entropo__kl_cov__ratio": 0.2, "entropo__kl_cov__penalty": "k2"}
METHODS = {
    "repo_r": {"entropo__repo__zeta__initial": 0.05},
    "repo_r_centred": {
        "entropo__repo__zeta__initial": 0.05,
        "entropo__repo__center": True,
        "actor_rollout_ref__actor__calculate_entropy": True,
    },
    "repo_r_old": {"entropo__repo__zeta__initial": 0.05, "entropo__repo__logp": "old"},
    "repo_d": {"entropo__repo__zeta__initial": 5.0},
    "repo_neutral": {"entropo__target__fraction": 0.5},
    "adapo": {"algorithm__adv_estimator": "rloo", "entropo__adapo__clip_high__initial": 0.06},
    "clip_cov": {"algorithm__adv_estimator": "grpo", **CLIP_COV},
    "kl_cov": {"algorithm__adv_estimator": "grpo", **KL_COV},
    "repo_r_clip_cov": CLIP_COV,
    "repo_r_kl_cov": KL_COV,
    "repo_neutral_adapo": {},
    "adapo_clip_cov": {"algorithm__adv_estimator": "grpo", **CLIP_COV},
    "adapo_kl_cov": {"algorithm__adv_estimator": "grpo", **KL_COV},
}


def recipe(method):
    return method.removesuffix("_centred").removesuffix("_old")


def run(method, cut, monkeypatch, dtype=torch.float64, kind=harness.Ranks):
    """One global step; returns what every cut must agree on."""
    leaves, ranks, shuffled = cut
    config = harness.configuration(f"+entropo={recipe(method)}", **WHOLE, **METHODS[method], **leaves)
    training = harness.Training(config, monkeypatch, harness.Policy(dtype=dtype), ranks, 1.0, kind)
    rows = rollout(dtype)
    random.Random(7).shuffle(rows) if shuffled else None
    metrics = training.step(rows)
    names = [f"{SELECTED}{method.name}" for method in training.trainer.plan.methods]
    chosen = {(name, key): each.tolist() for name in names for key, each in training.field(name).items()}
    return training, chosen, training.field("advantages"), metrics


def rollout(dtype=torch.float64):
    """Sixteen responses with rewards that no float holds exactly."""
    draw = random.Random(3)
    return harness.sample(harness.Policy(dtype=dtype), seed=11, score=lambda _: draw.gauss(0, 1))


@pytest.fixture(scope="module")
def uncut():
    """Each method's result with the whole mini-batch in one piece, computed once."""
    found = {}

    def result(method, monkeypatch):
        if method not in found:
            found[method] = run(method, ({MICRO: 16}, 1, False), monkeypatch)
        return found[method]

    return result


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
def test_no_cut_changes_anything(method, cut, uncut, monkeypatch):
    whole, chosen, advantages, metrics = uncut(method, monkeypatch)
    other, chosen_too, advantages_too, metrics_too = run(method, CUTS[cut], monkeypatch)
    # tokens that the driver drops need not be known to the workers, unless a shape follows there
    assert chosen == chosen_too and bool(chosen) == (method.endswith("_cov") and method != "adapo_clip_cov")
    assert advantages.keys() == advantages_too.keys()
    for key in advantages:
        torch.testing.assert_close(advantages[key], advantages_too[key], rtol=1e-12, atol=1e-14)
    agree(whole, metrics, other, metrics_too)


def agree(whole, metrics, other, metrics_too, absolute=1e-12):
    """Both updates' losses and gradients, and all our metrics."""
    assert len(whole.ranks.losses) == 2 and whole.ranks.losses == pytest.approx(
        other.ranks.losses, rel=1e-10, abs=absolute
    )
    for one, two in zip(whole.ranks.gradients, other.ranks.gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)
    ours = {name: value for name, value in metrics.items() if name.startswith("entropo/") and name != SECONDS}
    assert ours == pytest.approx({name: metrics_too[name] for name in ours}, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", ["repo_r_clip_cov", "repo_r_kl_cov", "repo_neutral_adapo"])
@pytest.mark.parametrize("cut", ["micro_1", "two_ranks_dynamic", "shuffled"])
def test_in_single_precision_too(method, cut, monkeypatch):
    whole, chosen, _, _ = run(method, ({MICRO: 16}, 1, False), monkeypatch, torch.float32)
    other, chosen_too, _, _ = run(method, CUTS[cut], monkeypatch, torch.float32)
    assert chosen == chosen_too
    assert whole.ranks.losses == pytest.approx(other.ranks.losses, rel=1e-5, abs=1e-6)
    for one, two in zip(whole.ranks.gradients, other.ranks.gradients, strict=True):
        assert float((one - two).abs().max()) < 1e-6 * float(one.abs().max().clamp(min=1))


@pytest.mark.parametrize("cut", ["two_ranks", "shuffled_dynamic_two_ranks"])
@pytest.mark.parametrize("method", ["repo_r_clip_cov", "adapo_kl_cov"])
def test_verls_worker_on_two_processes_gives_the_same(method, cut, uncut, monkeypatch):
    whole, chosen, _, metrics = uncut(method, monkeypatch)
    other, chosen_too, _, metrics_too = run(method, CUTS[cut], monkeypatch, kind=Processes)
    assert chosen == chosen_too
    agree(whole, metrics, other, metrics_too, absolute=1e-7)  # verl reports losses in fp32


@pytest.mark.parametrize("loss", ["clip_cov", "kl_cov"])
def test_verls_own_depends_on_the_cut(loss, monkeypatch):
    policy_loss = f"{ACTOR}.policy_loss"
    overrides = [f"{policy_loss}.loss_mode={loss}", f"{policy_loss}.clip_cov_ratio=0.1", f"{policy_loss}.clip_cov_lb=0"]
    overrides += [f"{policy_loss}.kl_cov_ratio=0.1", f"{policy_loss}.ppo_kl_coef=1.0", "algorithm.adv_estimator=grpo"]
    gradients = []
    for size in (16, 1):
        torch.manual_seed(0)
        config = harness.configuration(*overrides, **WHOLE, **{MICRO: size})
        training = harness.Training(config, monkeypatch, harness.Policy(dtype=torch.float64), lr=1.0)
        training.step(rollout())
        gradients.append(training.ranks.gradients[1])
    whole, cut = gradients
    assert float((whole - cut).norm() / whole.norm()) > 0.01


def test_how_many_tokens_verls_kl_cov_takes_depends_on_the_cut_and_ours_does_not():
    draw = torch.Generator().manual_seed(0)
    logp, mask = -torch.rand(64, 512, generator=draw) * 3, torch.ones(64, 512)
    advantage = torch.randn(64, 1, generator=draw).expand(64, 512)
    sizes = [64 // pieces for pieces in (1, 2, 4, 8, 16, 32, 64)]
    parts = [[x.split(size) for x in (logp, advantage, mask)] for size in sizes]
    theirs = [sum(int(micro_top(*each, 2e-4).sum()) for each in zip(*cut, strict=True)) for cut in parts]
    assert theirs == [6, 6, 4, 8, 16, 32, 64]
    order = token_keys([f"p_{n}_0" for n in range(64)], 512, 0, 1)
    assert int(select_top(covariance(logp, advantage, mask), mask, 2e-4, order).sum()) == 6


def test_verls_kl_cov_moves_with_its_micro_batch_as_micro_top_says():
    """The count above is verl's: a token has its penalty's gradient exactly where ``micro_top`` is True."""
    draw = torch.Generator().manual_seed(1)
    old = -torch.rand(4, 8, generator=draw)
    logp = (old + 0.1).requires_grad_()
    advantage, mask = torch.randn(4, 1, generator=draw).expand(4, 8), torch.ones(4, 8)
    config = harness.configuration(f"{ACTOR}.policy_loss.kl_cov_ratio=0.1", f"{ACTOR}.policy_loss.ppo_kl_coef=1.0")
    actor = harness.omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    compute_policy_loss_kl_cov(old, logp, advantage, mask, "token-mean", actor)[0].backward()
    plain = -advantage * (logp - old).exp().detach() / 32
    assert torch.equal((logp.grad - plain).abs() > 1e-3, micro_top(logp, advantage, mask, 0.1))
