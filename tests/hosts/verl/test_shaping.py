"""What the driver does to a batch, in numbers worked by hand."""

import math

import pytest
import torch

from entropo_plugin.config import parse
from entropo_plugin.hosts.verl.driver.shaping import mini_batches, select_tokens, shape_advantages
from entropo_plugin.hosts.verl.run import Run
from entropo_plugin.hosts.verl.startup.plan import Plan

# two tokens of p = 1/2 and 1/4, in states of entropy 1: L = 0.306853 and -0.386294; a third that a tool wrote
DATA = {
    "old_log_probs": torch.tensor([[math.log(0.5), math.log(0.25), math.nan]], dtype=torch.float64),
    "entropy": torch.tensor([[1.0, 1.0, math.nan]], dtype=torch.float64),
    "advantages": torch.tensor([[2.0, -1.0, 0.0]], dtype=torch.float64),
    "response_mask": torch.tensor([[1, 1, 0]]),
}
# mean log p = -9.36 / 7, mean A = 4.5 / 7; the last token of the second row is padding:
# Cov = 1.060408, -0.568163, 1.103265, -1.425306; -1.299592, 3.043265, -1.516735
COV = {
    "old_log_probs": torch.tensor([[-0.1, -2, -0.05, -3], [-0.2, -4, -0.01, -9]]),
    "advantages": torch.tensor([[1.5] * 4, [-0.5] * 3 + [0.0]]),
    "response_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
}


def run(estimator=None, loss=None, entropy=1.0, **node):
    made = Run(Plan(estimator, parse(node), 1e-4, 0.05, loss))
    made.observe(entropy * 10, 10)
    return made


def shaped(made, metrics=None):
    found = shape_advantages(DATA, made, {} if metrics is None else metrics)
    assert found[0, 2] == 0
    return found[0, :2].tolist()


def test_repo_r_from_the_old_policy():
    made = run("repo_r", repo={"logp": "old", "zeta": {"initial": 0.1}})
    assert shaped(made) == pytest.approx([2 * (1 + 0.0693147), -(1 - 0.1386294)], abs=1e-6)


def test_repo_r_centred():
    made = run("repo_r", repo={"logp": "old", "center": True, "zeta": {"initial": 0.1}})
    assert shaped(made) == pytest.approx([2 * (1 - 0.0306853), -(1 - 0.0386294)], abs=1e-6)


def test_repo_d_pays_twice_the_predicted_loss():
    # mean(p A L) = (0.306853 + 0.096574) / 2 = 0.201713, beta = 2 * 0.201713
    assert shaped(run("repo_d", repo={"zeta": {"initial": 2.0}})) == pytest.approx([1.8762075, -0.8441587], abs=1e-6)


def neutral(**settings):
    target = {"kind": "value", "value": 1.5}
    return run("repo_neutral", target=target, neutral={"kappa": 0.1, "cap": 100.0, "share": 10.0} | settings)


def test_the_neutral_law_takes_back_the_predicted_loss_and_pulls():
    # (0.201713 + 0.1 * (1.5 - 1.0)) / mean(p L^2) = 0.251713 / 0.0421926
    metrics = {}
    assert shaped(neutral(), metrics) == pytest.approx([0.1693723, 1.3045614], abs=1e-6)
    assert metrics["entropo/beta_neutral"] == pytest.approx(5.9658169, abs=1e-6)


def test_the_neutral_law_never_exceeds_its_share_of_the_advantage():
    # 0.1 * mean|A| / mean|L| = 0.15 / 0.3465736
    metrics = {}
    assert shaped(neutral(share=0.1), metrics) == pytest.approx([1.8671915, -0.8328085], abs=1e-6)
    assert metrics["entropo/beta_neutral"] == pytest.approx(0.4328085, abs=1e-6)
    assert shaped(neutral(cap=0.25)) == pytest.approx([2 - 0.25 * 0.3068528, -1 + 0.25 * 0.3862944], abs=1e-6)


def select(loss, parts=None, keys=("a_0_0", "b_0_0"), data=COV, step=1, **node):
    return select_tokens(data, keys, run(None, loss, **node), step, parts)


def test_kl_cov_takes_the_two_highest_of_seven():
    chosen, metrics = select("entropo_kl_cov", kl_cov={"ratio": 0.3})
    assert chosen.nonzero().tolist() == [[0, 2], [1, 1]]
    # 1.103265 and 3.043265, of which the second has A < 0, of 10.016735 in all
    assert metrics["entropo/selection/share"] == pytest.approx(2 / 7)
    assert metrics["entropo/selection/negative_share"] == 0.5
    assert metrics["entropo/selection/weight"] == pytest.approx(4.146531 / 10.016735, abs=1e-6)
    # (1.5 - 0.642857) * 9.36 / 7
    assert metrics["entropo/selection/ceiling"] == pytest.approx(1.1461224, abs=1e-6)


def test_clip_cov_takes_any_quota_of_its_band():
    assert select("entropo_clip_cov", clip_cov={"ratio": 1.0})[0].nonzero().tolist() == [[0, 0], [0, 2], [1, 1]]
    some = [select("entropo_clip_cov", step=step, clip_cov={"ratio": 0.3})[0] for step in range(1, 9)]
    assert all(each.nonzero().shape == (2, 2) and not each[0, 1] for each in some)
    assert len({tuple(map(tuple, each.nonzero().tolist())) for each in some}) == 3


def test_a_choice_follows_the_response_not_its_row():
    first, _ = select("entropo_clip_cov", clip_cov={"ratio": 0.3})
    turned = {name: each.flip(0) for name, each in COV.items()}
    second, _ = select("entropo_clip_cov", keys=("b_0_0", "a_0_0"), data=turned, clip_cov={"ratio": 0.3})
    assert torch.equal(first, second.flip(0))


def test_each_mini_batch_has_its_own_quota_and_means():
    # one row each: every advantage is the mean, every covariance 0, and the keys decide
    parts = [torch.tensor([0]), torch.tensor([1])]
    chosen, _ = select("entropo_kl_cov", parts=parts, kl_cov={"ratio": 0.5, "scope": "mini_batch"})
    assert chosen.sum(1).tolist() == [2, 1]


def test_no_quota_no_choice():
    chosen, metrics = select("entropo_kl_cov", kl_cov={"ratio": 0.1})
    assert not chosen.any() and metrics["entropo/selection/share"] == 0
    assert "entropo/selection/negative_share" not in metrics


def test_mini_batches_are_cut_per_rank():
    assert [rows.tolist() for rows in mini_batches(8, 2, 4)] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert [rows.tolist() for rows in mini_batches(4, 1, 2)] == [[0, 1], [2, 3]]
