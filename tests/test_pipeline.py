"""What the driver does to a batch, in numbers worked by hand."""

import math
from dataclasses import replace

import pytest
import torch
from runs import run_of

from entropo_plugin.methods import Tokens
from entropo_plugin.pipeline import acts_on_driver, drop, mean_of, overrides, penalties, prepare_batch, shape

# two tokens of p = 1/2 and 1/4, in states of entropy 1: L = 0.306853 and -0.386294; a third that a tool wrote
LOGP = torch.tensor([[math.log(0.5), math.log(0.25), math.nan]], dtype=torch.float64)
DATA = Tokens(
    log_prob=LOGP,
    mask=torch.tensor([[1, 1, 0]]),
    old_log_prob=LOGP,
    advantage=torch.tensor([[2.0, -1.0, 0.0]], dtype=torch.float64),
    entropy=torch.tensor([[1.0, 1.0, math.nan]], dtype=torch.float64),
    keys=["a_0_0"],
)
# mean log p = -9.36 / 7, mean A = 4.5 / 7; the last token of the second row is padding:
# Cov = 1.060408, -0.568163, 1.103265, -1.425306; -1.299592, 3.043265, -1.516735
OLD = torch.tensor([[-0.1, -2, -0.05, -3], [-0.2, -4, -0.01, -9]])
COV = Tokens(
    log_prob=OLD,
    mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    old_log_prob=OLD,
    advantage=torch.tensor([[1.5] * 4, [-0.5] * 3 + [0.0]]),
    keys=("a_0_0", "b_0_0"),
    step=1,
)


def shaped(*methods, metrics=None, **node):
    """The two tokens' advantages at a mean entropy of 1 nat, and what the step then logs."""
    run = run_of(*methods, entropy=1.0, **node)
    prepared = prepare_batch(run, DATA)
    assert prepared.shaped and prepared.advantage[0, 2] == 0
    if metrics is not None:
        metrics |= prepared.metrics | run.end_step(1)
    return prepared.advantage[0, :2].tolist()


def test_repo_r_from_the_old_policy():
    metrics = {}
    found = shaped("repo_r", metrics=metrics, repo={"logp": "old", "zeta": {"initial": 0.1, "high": 1.0}})
    assert found == pytest.approx([2 * (1 + 0.0693147), -(1 - 0.1386294)], abs=1e-6)
    # (2 * 0.0693147 + 0.1386294) / 2
    assert metrics["entropo/shift"] == pytest.approx(0.1386294, abs=1e-6)


def test_repo_r_centred():
    found = shaped("repo_r", repo={"logp": "old", "center": True, "zeta": {"initial": 0.1, "high": 1.0}})
    assert found == pytest.approx([2 * (1 - 0.0306853), -(1 - 0.0386294)], abs=1e-6)


def test_repo_d_pays_twice_the_predicted_loss():
    # mean(p A L) = (0.306853 + 0.096574) / 2 = 0.201713, beta = 2 * 0.201713
    assert shaped("repo_d", repo={"zeta": {"initial": 2.0}}) == pytest.approx([1.8762075, -0.8441587], abs=1e-6)


def neutral(metrics=None, **settings):
    return shaped("repo_neutral", metrics=metrics, target={"kind": "value", "value": 1.5}, neutral=settings)


def test_the_neutral_law_takes_back_the_predicted_loss_and_pulls():
    """C = .201713, R = .0421926, M = .201713; H = 1, H* = 1.5: beta = (C + .3 M (.5 / 1.5)) / R."""
    metrics = {}
    beta = 0.2017132 * (1 + 0.3 / 3) / 0.0421926
    assert neutral(metrics, gain=0.3, authority=10.0) == pytest.approx(
        [2 - beta * 0.3068528, -1 + beta * 0.3862944], abs=1e-4
    )
    assert metrics["entropo/beta_neutral"] == pytest.approx(beta, rel=1e-5)
    assert metrics["entropo/beta_neutral_at_bound"] == 0.0


def test_the_neutral_law_never_exceeds_its_share_of_the_advantage_and_says_so():
    # 0.1 * mean|A| / mean|L| = 0.15 / 0.3465736
    metrics = {}
    assert neutral(metrics, authority=0.1) == pytest.approx([1.8671915, -0.8328085], abs=1e-6)
    assert metrics["entropo/beta_neutral"] == pytest.approx(0.4328085, abs=1e-6)
    assert metrics["entropo/beta_neutral_at_bound"] == 1.0


def test_matched_repo_r_takes_back_the_predicted_loss_by_its_own_actuator():
    """mean(p |A| L^2) = (.5 * 2 * .0941587 + .25 * .1492234) / 2 = .0657323; on target zeta = C / that."""
    metrics = {}
    zeta = 0.2017132 / 0.0657323
    advantage = shaped("repo_r", metrics=metrics, repo={"zeta": {"law": "matched", "high": 9.0}})
    assert advantage == pytest.approx([2 - 2 * zeta * 0.3068528, -1 + zeta * 0.3862944], abs=1e-4)
    assert metrics["entropo/zeta"] == pytest.approx(zeta, rel=1e-5) and metrics["entropo/zeta_at_bound"] == 0.0


def test_matched_repo_r_stays_within_its_bound_and_says_so():
    metrics = {}
    shaped("repo_r", metrics=metrics, repo={"zeta": {"law": "matched"}})
    assert (metrics["entropo/zeta"], metrics["entropo/zeta_at_bound"]) == (1.0, 1.0)


def select(method, data=COV, **node):
    """The chosen tokens and the metrics of the choice."""
    prepared = prepare_batch(run_of(method, **node), data)
    return prepared.selected[method], prepared.metrics


def test_kl_cov_takes_the_two_highest_of_seven():
    chosen, metrics = select("kl_cov", kl_cov={"ratio": 0.3})
    assert chosen.nonzero().tolist() == [[0, 2], [1, 1]]
    # 1.103265 and 3.043265, of which the second has A < 0, of 10.016735 in all
    assert metrics["entropo/selection/share"] == pytest.approx(2 / 7)
    assert metrics["entropo/selection/negative_share"] == 0.5
    assert metrics["entropo/selection/weight"] == pytest.approx(4.146531 / 10.016735, abs=1e-6)
    # (1.5 - 0.642857) * 9.36 / 7
    assert metrics["entropo/selection/ceiling"] == pytest.approx(1.1461224, abs=1e-6)


def test_clip_cov_takes_any_quota_of_its_band():
    assert select("clip_cov", clip_cov={"ratio": 1.0})[0].nonzero().tolist() == [[0, 0], [0, 2], [1, 1]]
    some = [select("clip_cov", replace(COV, step=step), clip_cov={"ratio": 0.3})[0] for step in range(1, 9)]
    assert all(each.nonzero().shape == (2, 2) and not each[0, 1] for each in some)
    assert len({tuple(map(tuple, each.nonzero().tolist())) for each in some}) == 3


def test_a_choice_follows_the_response_not_its_row():
    first, _ = select("clip_cov", clip_cov={"ratio": 0.3})
    turned = {name: getattr(COV, name).flip(0) for name in ("log_prob", "old_log_prob", "advantage", "mask")}
    second, _ = select("clip_cov", replace(COV, keys=("b_0_0", "a_0_0"), **turned), clip_cov={"ratio": 0.3})
    assert torch.equal(first, second.flip(0))


def test_each_mini_batch_has_its_own_quota_and_means():
    # one row each: every advantage is the mean, every covariance 0, and the keys decide
    data = replace(COV, parts=[torch.tensor([0]), torch.tensor([1])])
    chosen, _ = select("kl_cov", data, kl_cov={"ratio": 0.5, "scope": "mini_batch"})
    assert chosen.sum(1).tolist() == [2, 1]


def test_no_quota_no_choice():
    chosen, metrics = select("kl_cov", kl_cov={"ratio": 0.1})
    assert not chosen.any() and metrics["entropo/selection/share"] == 0
    assert "entropo/selection/negative_share" not in metrics


def test_tokens_are_chosen_by_base_advantages_and_dropped_after_every_shape():
    """Zeta 1 with L = log p: the two chosen tokens keep nothing, however much the shape gave them."""
    repo = {"logp": "old", "zeta": {"law": "fixed", "initial": 1.0}}
    run = run_of("repo_r", "clip_cov", repo=repo, clip_cov={"ratio": 1.0})
    prepared = prepare_batch(run, COV)
    assert prepared.selected["clip_cov"].nonzero().tolist() == [[0, 0], [0, 2], [1, 1]]
    # 1.5 (1 + 2), 1.5 (1 + 3); -0.5 (1 - 0.2), -0.5 (1 - 0.01)
    assert prepared.advantage.flatten().tolist() == pytest.approx([0, 4.5, 0, 6.0, -0.4, 0, -0.495, 0])
    assert torch.equal(COV.advantage, torch.tensor([[1.5] * 4, [-0.5] * 3 + [0.0]]))


def test_shapes_follow_one_another_in_the_order_of_the_methods():
    """The worker's REPO-R on what a driver's method made of the advantages; each hook gets its own coefficients."""
    run = run_of("repo_r", repo={"zeta": {"law": "fixed", "initial": 0.1}})
    assert torch.equal(shape(run.methods, COV, run.coefficients(), "driver"), COV.advantage)
    first = shape(run.methods, COV, run.coefficients(), "worker")
    twice = shape([*run.methods, *run.methods], COV, run.coefficients(), "worker")
    assert torch.equal(twice, shape(run.methods, replace(COV, advantage=first), run.coefficients(), "worker"))
    assert not torch.equal(first, twice)


def test_a_penalty_is_zero_but_at_its_tokens():
    """KL-Cov's |d| with beta 3 on two tokens that moved by 0.5 and -0.25."""
    run = run_of("kl_cov", kl_cov={"ratio": 0.3, "beta": 3.0})
    chosen = prepare_batch(run, COV).selected
    moved = replace(COV, log_prob=OLD + torch.tensor([[9.0, 9, 0.5, 9], [9, -0.25, 9, 9]]))
    total = penalties(run.methods, moved, run.coefficients(), chosen)
    assert total.flatten().tolist() == pytest.approx([0, 0, 1.5, 0, 0, 0.75, 0, 0], abs=1e-6)
    assert penalties(run_of("repo_r").methods, moved, {}, {}) is None


def test_what_is_not_chosen_is_not_dropped():
    run = run_of("clip_cov")
    assert torch.equal(drop(run.methods, COV.advantage, {}), COV.advantage)
    every = {"clip_cov": torch.ones(2, 4, dtype=torch.bool)}
    assert not drop(run.methods, COV.advantage, every).any()
    assert torch.equal(drop(run_of("kl_cov").methods, COV.advantage, {"kl_cov": every["clip_cov"]}), COV.advantage)


def test_the_entropy_bonus_moves_a_scalar_of_the_host():
    run = run_of("entropy_bonus", entropy_coeff={"initial": 0.02})
    assert overrides(run.methods, run.coefficients()) == {"entropy_coeff": 0.02}
    assert overrides(run_of("repo_r").methods, {}) == {}


@pytest.mark.parametrize(
    ("methods", "node", "acts"),
    [
        ([], {}, False),
        (["repo_r"], {}, False),
        (["adapo"], {}, False),
        (["entropy_bonus"], {}, False),
        (["repo_r"], {"repo": {"logp": "old"}}, True),
        (["repo_d"], {}, True),
        (["repo_neutral"], {}, True),
        (["clip_cov"], {}, True),
        (["kl_cov"], {}, True),
    ],
)
def test_the_driver_has_work_only_where_a_method_has_some(methods, node, acts):
    assert acts_on_driver(run_of(*methods, **node).methods) == acts


def test_a_batch_that_nobody_touches_comes_back_as_it_was():
    prepared = prepare_batch(run_of("repo_r", "adapo"), COV)
    assert prepared.advantage is COV.advantage and not prepared.shaped
    assert (prepared.selected, prepared.metrics) == ({}, {})


def test_a_mean_leaves_out_the_padding_and_what_is_not_finite():
    assert mean_of(torch.tensor([[1.0, math.nan, 3.0, 9.0]]), torch.tensor([[1, 1, 1, 0]])) == 2.0
    assert mean_of(torch.full((1, 2), math.inf), torch.ones(1, 2)) == 0.0


def test_several_methods_that_shape_have_a_shift_each():
    run = run_of("repo_d", "entropy_advantage", repo={"zeta": {"initial": 2.0}}, entropy_advantage={"alpha": 0.0})
    run.loop.observe(10.0, 10)
    metrics = prepare_batch(run, DATA).metrics
    # zeta |mean(p A L)| mean |L| = 2 * .2017132 * .3465736; alpha = 0 moves nothing
    assert metrics == pytest.approx(
        {"entropo/repo_d/shift": 0.1398174, "entropo/entropy_advantage/shift": 0.0}, abs=1e-6
    )
