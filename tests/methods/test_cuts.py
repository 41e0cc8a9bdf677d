"""Every method of the registry, cut in the ways that verl can cut a batch: the same advantages, losses and gradients.

A new method joins by being registered; ``ACTING`` holds the settings under which one acts on the harness's small batch.
tests/hosts/verl/test_invariance.py has the methods of the first round under every cut.
"""

import harness
import pytest
import torch
from golden import ACTOR, MICRO, WHOLE, rollout, run_of, train
from processes import Processes

from entropo_plugin.fields import ConfigError
from entropo_plugin.methods.registry import known

ELSEWHERE = ("repo_r", "repo_d", "repo_neutral", "adapo", "clip_cov", "kl_cov")
METHODS = [name for name in known() if name not in ELSEWHERE]
ABOVE = {"entropo__target__kind": "value", "entropo__target__value": 1.94}
ACTING = {
    "entropy_range": {"entropo__entropy_range__low": 5.0, "entropo__entropy_range__high": 6.0},
    "negative_reinforce": {"entropo__negative_reinforce__threshold": 0.0},
    "ce_gppo": {"entropo__ce_gppo__clip_low": 0.02, "entropo__ce_gppo__clip_high": 0.02},
    "entropic": {"entropo__entropic__probability": 0.3},
    "stare": {"entropo__stare__share": 0.3, "entropo__stare__two_sided": True, **ABOVE},
    "entropy_bonus": {"entropo__entropy_coeff__initial": 0.02, f"{ACTOR}__calculate_entropy": True},
    "repo_anchored": {f"{ACTOR}__use_kl_loss": True, f"{ACTOR}__kl_loss_coef": 0.0},
}
CUTS = {
    "micro_1": ({MICRO: 1}, 1, False),
    "eight_ranks_shuffled": ({MICRO: 2}, 8, True),
    "two_ranks_dynamic_shuffled": (
        {f"{ACTOR}__use_dynamic_bsz": True, f"{ACTOR}__ppo_max_token_len_per_gpu": 40}, 2, True,
    ),
}  # fmt: skip
LOSSES = ("gspo", "cispo")
SECONDS = "entropo/monitor/seconds"


@pytest.fixture(scope="module")
def uncut():
    return {}


def whole(uncut, monkeypatch, name, *others, **leaves):
    """The step with the whole batch in one micro-batch, computed once."""
    key = (name, others)
    if key not in uncut:
        recipe = f"+entropo=[{','.join((name, *others))}]"
        training, metrics = train(monkeypatch, recipe, **{MICRO: 16}, **ACTING.get(name, {}), **leaves)
        uncut[key] = training.ranks, training.field("advantages"), metrics
    return uncut[key]


def stock_gradient(uncut, monkeypatch, *mode):
    """Of the second update without us, computed once for each loss."""
    if mode not in uncut:
        uncut[mode] = train(monkeypatch, *mode, **{MICRO: 16})[0].ranks.gradients[1]
    return uncut[mode]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
def test_no_cut_changes_anything(method, cut, uncut, monkeypatch):
    ranks, advantages, metrics = whole(uncut, monkeypatch, method)
    leaves, count, shuffled = CUTS[cut]
    settings = {"ranks": count, "shuffled": shuffled, **ACTING.get(method, {}), **leaves}
    other, metrics_too = train(monkeypatch, f"+entropo=[{method}]", **settings)
    for key, values in other.field("advantages").items():
        torch.testing.assert_close(advantages[key], values, rtol=1e-12, atol=1e-14)
    assert ranks.losses == pytest.approx(other.ranks.losses, rel=1e-10, abs=1e-12)
    for one, two in zip(ranks.gradients, other.ranks.gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)
    ours = {name: value for name, value in metrics.items() if name.startswith("entropo/") and name != SECONDS}
    assert ours == pytest.approx({name: metrics_too[name] for name in ours}, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_it_acts_in_that_test(method, uncut, monkeypatch):
    assert not torch.equal(whole(uncut, monkeypatch, method)[0].gradients[1], stock_gradient(uncut, monkeypatch))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("ce_gppo", "unlikely_positive")])
def test_under_another_loss_of_verls_the_advantages_are_the_same(method, loss, uncut, monkeypatch):
    mode = f"actor_rollout_ref.actor.policy_loss.loss_mode={loss}"
    _, advantages, _ = whole(uncut, monkeypatch, method)
    ours, _ = train(monkeypatch, f"+entropo=[{method}]", mode, **{MICRO: 16}, **ACTING.get(method, {}))
    for key, values in ours.field("advantages").items():
        torch.testing.assert_close(advantages[key], values, rtol=0, atol=0)
    assert not torch.equal(ours.ranks.gradients[1], stock_gradient(uncut, monkeypatch, mode))


@pytest.mark.parametrize("method", ["entropy_range", "entropy_advantage", "stare", "top_entropy"])
def test_a_loss_that_mixes_a_responses_tokens_is_refused(method):
    facts = {"loss_mode": "geo_mean", "mixes": "gives every token the mean of its response"}
    with pytest.raises(ConfigError, match=f"loss_mode=geo_mean gives every token.*take {method} out"):
        run_of(method, facts=facts)


@pytest.mark.parametrize("method", ["entropy_range", "entropy_advantage", "stare", "top_entropy", "entropic"])
def test_without_an_entropy_it_is_refused(method):
    with pytest.raises(ConfigError, match="needs pi_old's entropy at every token"):
        run_of(method, facts={"fields": frozenset({"reward"})})


@pytest.mark.parametrize("method", METHODS)
def test_with_repo_in_the_worker_no_cut_changes_anything(method, monkeypatch):
    """REPO-R behind the method's own advantages, with the target that both need where both have one."""
    names = f"+entropo=[repo_r,{method}]"
    settings = {**ACTING.get(method, {}), "entropo__repo__zeta__initial": 0.05, "entropo__target__kind": "initial"}
    settings |= ABOVE if method == "stare" else {}
    one, _ = train(monkeypatch, names, **{MICRO: 16}, **settings)
    leaves, count, shuffled = CUTS["two_ranks_dynamic_shuffled"]
    two, _ = train(monkeypatch, names, ranks=count, shuffled=shuffled, **leaves, **settings)
    assert one.ranks.losses == pytest.approx(two.ranks.losses, rel=1e-10, abs=1e-12)
    assert all(gradient.isfinite().all() for gradient in one.ranks.gradients)


def test_verls_worker_on_two_processes_gives_the_same(uncut, monkeypatch):
    """EntroPIC, whose term is made in the workers."""
    ranks, _, _ = whole(uncut, monkeypatch, "entropic")
    settings = {**WHOLE, "algorithm__adv_estimator": "grpo", MICRO: 4, **ACTING["entropic"]}
    config = harness.configuration("+entropo=[entropic]", **settings)
    training = harness.Training(config, monkeypatch, harness.Policy(dtype=torch.float64), 2, 1.0, Processes)
    training.step(rollout())
    assert training.ranks.losses == pytest.approx(ranks.losses, rel=1e-6, abs=1e-7)  # verl reports losses in fp32
    for one, two in zip(ranks.gradients, training.ranks.gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)
