"""The 80/20 rule: literal numbers, its gradient, every cut of the batch, and what it says where it cannot act."""

import math

import numpy as np
import pytest
import torch
from golden import ACTOR, ENTROPY, LOGP, MASK, MICRO, prepared, run_of, same, train, vanilla

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import describe, remarks

CUTS = {
    "micro_1": ({MICRO: 1}, 1, False),
    "two_ranks_shuffled": ({MICRO: 2}, 2, True),
    "dynamic_shuffled": ({f"{ACTOR}__use_dynamic_bsz": True, f"{ACTOR}__ppo_max_token_len_per_gpu": 40}, 2, True),
}


def run_with(share, *others, **node):
    return run_of("top_entropy", *others, top_entropy={"share": share}, **node)


def test_the_golden_loss():
    """The 0.8 quantile of seven entropies is 1.16; two tokens remain, and the loss is still over seven."""
    shaped = prepared(run_with(0.2))
    assert shaped.advantage.nonzero().tolist() == [[0, 1], [0, 3]]
    assert shaped.metrics["entropo/selection/share"] == pytest.approx(5 / 7)
    assert float(vanilla(LOGP, shaped.advantage)) == pytest.approx(-0.420476, abs=1e-6)


def test_the_gradient():
    """Of the two tokens the clip at 1.28 spares both: -r A / 7 each; finite differences agree."""
    advantage, logp = prepared(run_with(0.2)).advantage, LOGP.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(vanilla(logp, advantage), logp)
    expected = [[0, -math.exp(0.2) * 1.5 / 7, 0, -math.exp(-0.3) * 1.5 / 7], [0, 0, 0, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: vanilla(x, advantage), logp)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1), (0.5, 4), (1.0, 7)])
def test_as_many_tokens_as_the_share_says(share, kept):
    assert int((prepared(run_with(share)).advantage != 0).sum()) == kept


def test_a_token_without_an_entropy_is_neither_counted_nor_dropped():
    entropy = ENTROPY.clone()
    entropy[0, 0] = math.nan
    assert prepared(run_with(0.2), entropy=entropy).advantage.nonzero().tolist() == [[0, 0], [0, 1], [0, 3]]


def test_an_empty_batch():
    empty = prepared(run_with(0.2), mask=MASK * 0, advantage=ENTROPY * 0)
    assert not empty.advantage.nan_to_num().any() and empty.metrics["entropo/selection/share"] == 0


@pytest.mark.parametrize("loss", ["vanilla", "gspo", "cispo", "adapo"])
def test_with_a_share_of_1_every_loss_is_itself_to_the_last_bit(loss, monkeypatch):
    own = ["+entropo=adapo"] if loss == "adapo" else [f"actor_rollout_ref.actor.policy_loss.loss_mode={loss}"]
    both = ["+entropo=[adapo,top_entropy]"] if loss == "adapo" else ["+entropo=top_entropy", *own]
    ours, _ = train(monkeypatch, *both, entropo__top_entropy__share=1.0)
    other, _ = train(monkeypatch, *own)
    assert same(ours, other)


@pytest.fixture(scope="module")
def uncut():
    """Each recipe's step with the whole batch in one micro-batch, computed once."""
    return {}


@pytest.mark.parametrize("recipe", ["top_entropy", "[repo_r,top_entropy]"])
@pytest.mark.parametrize("cut", CUTS)
def test_no_cut_changes_anything(recipe, cut, uncut, monkeypatch):
    if recipe not in uncut:
        uncut[recipe] = train(monkeypatch, f"+entropo={recipe}", **{MICRO: 16})
    whole, metrics = uncut[recipe]
    leaves, ranks, shuffled = CUTS[cut]
    before = whole.field("advantages")
    other, metrics_too = train(
        monkeypatch, "algorithm.adv_estimator=grpo", f"+entropo={recipe}", ranks=ranks, shuffled=shuffled, **leaves
    )
    after = other.field("advantages")
    for key in before:
        torch.testing.assert_close(before[key], after[key], rtol=1e-12, atol=1e-14)
    assert whole.ranks.losses == pytest.approx(other.ranks.losses, rel=1e-10, abs=1e-12)
    for one, two in zip(whole.ranks.gradients, other.ranks.gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)
    assert metrics["entropo/selection/share"] == pytest.approx(metrics_too["entropo/selection/share"])


def test_a_dropped_token_stays_dropped_behind_repo():
    """REPO-D would give a token without an advantage one again; dropping comes last."""
    shaped = prepared(run_with(0.2, "repo_d", repo={"zeta": {"initial": 5.0, "law": "fixed"}}))
    assert shaped.advantage.nonzero().tolist() == [[0, 1], [0, 3]]


def test_it_says_what_it_does():
    run = run_with(0.2)
    words = "entropo: gradient on the 0.2 of the tokens with most entropy; policy loss vanilla"
    assert describe(run.methods, run.settings, run.methods[0].host) == words
    assert list(remarks(run.methods)) == []
    assert "does nothing" in next(iter(remarks(run_with(1.0).methods)))


@pytest.mark.parametrize(
    ("loss", "reason"), [("geo_mean", "mean of its advantages"), ("dro", "token without advantage")]
)
def test_a_loss_that_cannot_do_without_single_tokens_is_refused(loss, reason, monkeypatch):
    with pytest.raises(ConfigError, match=f"loss_mode={loss}.*{reason}.*80/20 rule"):
        train(
            monkeypatch,
            "algorithm.adv_estimator=grpo",
            "+entropo=top_entropy",
            f"actor_rollout_ref.actor.policy_loss.loss_mode={loss}",
        )


@pytest.mark.parametrize(("share", "words"), [(1.2, "out of range"), (-0.1, "out of range"), ("all", "expected")])
def test_a_share_that_is_none_is_refused(share, words):
    with pytest.raises(ConfigError, match=rf"entropo.top_entropy.share=.*{words}.*\[0, 1\]"):
        parse({"top_entropy": {"share": share}})


def test_it_needs_an_entropy(monkeypatch):
    with pytest.raises(ConfigError, match="bypass_mode=true.*no entropy"):
        train(
            monkeypatch,
            "algorithm.adv_estimator=grpo",
            "+entropo=top_entropy",
            algorithm__rollout_correction__bypass_mode=True,
        )


@pytest.mark.parametrize(("size", "same"), [(64, 1.0), (16, 0.938511), (4, 0.908300), (1, 0.777235)])
def test_a_threshold_for_each_micro_batch_keeps_other_tokens(size, same):
    """64 responses of 512 tokens, log-normal entropies whose level differs from response to response."""
    draw = np.random.default_rng(0)
    entropy = np.exp(draw.normal(-1.5, 1.2, (64, 512)) + draw.normal(0, 0.5, (64, 1)))
    ours = entropy >= np.quantile(entropy, 0.8)
    theirs = np.concatenate([part >= np.quantile(part, 0.8) for part in np.split(entropy, 64 // size)])
    assert (ours & theirs).sum() / ours.sum() == pytest.approx(same, abs=1e-6)
