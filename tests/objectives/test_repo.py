import math

import pytest
import torch

from entropo_plugin.objectives import (
    drop_small,
    entropy_pull,
    repo_anchored,
    repo_d_beta,
    repo_matched,
    repo_neutral,
    repo_r,
    stand_in,
    step_cost,
)

LOGP = torch.tensor([[-1e-4, -0.1, -1.0, -5.0, -20.0, -50.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [(1.0, [1.000005, 1.005, 1.05, 1.25, 2.0, 2.0]), (-1.0, [-0.999995, -0.995, -0.95, -0.75, 0.0, 0.0])],
)
def test_repo_r_literal(advantage, expected):
    shaped = repo_r(torch.full_like(LOGP, advantage), stand_in(LOGP), 0.05)
    torch.testing.assert_close(shaped, torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-12)


def test_repo_r_at_three_nats():
    level = stand_in(torch.full((1, 3), -3.0))
    assert repo_r(torch.tensor([[2.0, -2.0, 0.0]]), level, 0.1)[0].tolist() == pytest.approx([2.6, -1.4, 0.0])


def test_zeta_zero_is_the_identity():
    advantage = torch.tensor([[1.5, -0.5, 0.0, 2.0, -3.0, 1.0]], dtype=torch.float64)
    assert torch.equal(repo_r(advantage, stand_in(LOGP), 0.0), advantage)


@pytest.mark.parametrize("zeta", [0.05, -0.05, 0.3])
def test_no_advantage_changes_its_sign(zeta):
    advantage = torch.tensor([[1.5, -0.5, 0.0, 2.0, -3.0, 1.0]], dtype=torch.float64)
    assert (repo_r(advantage, stand_in(LOGP), zeta) * advantage >= 0).all()


def test_no_gradient_through_the_log_prob():
    logp = torch.tensor([[-1.0]], requires_grad=True)
    assert not stand_in(logp, torch.tensor([[1.0]], requires_grad=True)).requires_grad


def test_centred_level_is_log_prob_plus_entropy():
    assert stand_in(torch.tensor([[-2.0, -30.0]]), torch.tensor([[0.5, 1.0]])).tolist() == [[-1.5, -19.0]]


def test_step_cost_literal_and_padding():
    logp = torch.tensor([[math.log(0.5), math.nan]])
    entropy, advantage = torch.tensor([[1.0, math.nan]]), torch.tensor([[2.0, math.nan]])
    cost = step_cost(advantage, logp, entropy, torch.tensor([[1, 0]]))
    assert float(cost) == pytest.approx(0.5 * 2 * (1 - math.log(2)), abs=1e-7)
    assert float(step_cost(advantage, logp, entropy, torch.zeros(1, 2))) == 0.0


def test_neutral_advantage_costs_nothing():
    torch.manual_seed(0)
    logp, entropy, advantage = -torch.rand(4, 6).double() * 3, torch.rand(4, 6).double(), torch.randn(4, 6).double()
    mask = torch.ones(4, 6)
    stats = entropy_pull(logp, entropy, advantage, mask)
    beta = stats.pull / stats.restoring
    shaped = repo_neutral(advantage, stand_in(logp, entropy), beta)
    assert abs(float(step_cost(shaped, logp, entropy, mask))) < 1e-15


def test_the_general_form_subtracts_the_level():
    assert repo_neutral(torch.tensor([[1.0]]), torch.tensor([[-2.0]]), 1.5).tolist() == [[4.0]]


def test_drop_small():
    assert drop_small(torch.tensor([[0.005, -0.02, 0.01]]), 0.01)[0].tolist() == pytest.approx([0.0, -0.02, 0.01])


def test_repo_d_beta_has_the_sign_of_zeta():
    assert [repo_d_beta(pull, zeta) for pull in (0.2, -0.2) for zeta in (3.0, -3.0)] == pytest.approx(
        [0.6, -0.6, 0.6, -0.6]
    )


def test_matched_form_is_repo_r_within_its_clamps():
    level = stand_in(torch.tensor([[-0.1, -1.0, -3.0]]), torch.tensor([[0.5, 0.5, 0.5]])).double()
    for sign in (1.0, -2.0, 0.0):
        advantage = torch.full((1, 3), sign).double()
        torch.testing.assert_close(repo_matched(advantage, level, 0.3), repo_r(advantage, level, 0.3))
    assert repo_matched(torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 2.0]]), 3.0).tolist() == [[-5.0, -7.0]]
    equal = repo_matched(torch.tensor([[0.0, -1.0]]), torch.tensor([[2.0, 2.0]]), 3.0, least=0.5)
    assert equal.tolist() == [[-3.0, -7.0]]


def test_anchored_literal_and_padding():
    advantage, mask = torch.tensor([[1.0, -1.0, 5.0]]), torch.tensor([[1, 1, 0]])
    logp, ref = torch.tensor([[-1.0, -2.0, math.nan]]), torch.tensor([[-1.5, -1.0, math.nan]])
    assert repo_anchored(advantage, logp, ref, 0.2, mask)[0].tolist() == pytest.approx([0.9, -0.8, 5.0])
    assert repo_anchored(advantage, logp, ref, 0.2, mask, centre=True)[0].tolist() == pytest.approx([0.85, -0.85, 5.0])
    assert torch.equal(repo_anchored(advantage, logp, ref, 0.0, mask), advantage)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("centre", [False, True])
def test_anchored_advantage_carries_the_gradient_of_kl(seed, centre):
    """Tabular, in expectation over the policy's own tokens: E[A' grad log p] = -b grad KL(p || p0), by differences."""
    draw = torch.Generator().manual_seed(seed)
    z, z0 = torch.randn(7, generator=draw).double(), torch.randn(7, generator=draw).double()
    at, step, b = z.clone().requires_grad_(), 1e-6, 0.3
    logp, ref = at.log_softmax(0), z0.log_softmax(0)
    shaped = repo_anchored(torch.zeros(1, 7).double(), logp[None], ref[None], b, torch.ones(1, 7), centre)[0]
    ((logp.detach().exp() * shaped * logp).sum()).backward()

    def kl(logits):
        return (logits.softmax(0) * (logits.log_softmax(0) - ref)).sum()

    found = [-b * float(kl(z + step * e) - kl(z - step * e)) / (2 * step) for e in torch.eye(7).double()]
    assert at.grad.tolist() == pytest.approx(found, abs=5e-9)
