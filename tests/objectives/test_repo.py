import math

import pytest
import torch

from entropo_plugin.objectives import (
    bound_beta,
    drop_small,
    neutral_beta,
    repo_d,
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
    assert torch.equal(repo_d(advantage, stand_in(LOGP), torch.tensor(1.0), 0.0), advantage)


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


def test_neutral_beta_literal():
    logp = torch.tensor([[math.log(0.5), math.log(0.25), math.nan]], dtype=torch.float64)
    entropy = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    advantage, mask = torch.tensor([[1.0, -1.0, 9.0]], dtype=torch.float64), torch.tensor([[1, 1, 0]])
    a, b = 1 - math.log(2), 1 - math.log(4)
    cost, restoring = (0.5 * a - 0.25 * b) / 2, (0.5 * a * a + 0.25 * b * b) / 2
    for pull in (0.0, 0.05, -0.3):
        beta = neutral_beta(advantage, logp, entropy, mask, pull, 100.0)
        assert float(beta) == pytest.approx((cost + pull) / restoring, rel=1e-12)
    assert float(neutral_beta(advantage, logp, entropy, mask, 50.0, 2.0)) == 2.0
    assert float(neutral_beta(advantage, logp, entropy, mask, -50.0, 2.0)) == -2.0
    assert float(neutral_beta(advantage, logp, entropy, torch.zeros(1, 3), 1.0, 2.0)) == 0.0


def test_neutral_advantage_costs_nothing():
    torch.manual_seed(0)
    logp, entropy, advantage = -torch.rand(4, 6).double() * 3, torch.rand(4, 6).double(), torch.randn(4, 6).double()
    mask = torch.ones(4, 6)
    beta = neutral_beta(advantage, logp, entropy, mask, 0.0, 100.0)
    shaped = repo_neutral(advantage, stand_in(logp, entropy), beta)
    assert abs(float(step_cost(shaped, logp, entropy, mask))) < 1e-15


def test_the_correction_stays_within_its_share_of_the_advantage():
    advantage, level = torch.tensor([[1.0, -3.0, math.nan]]), torch.tensor([[2.0, -2.0, math.nan]])
    mask = torch.tensor([[1, 1, 0]])
    bound = [float(bound_beta(torch.tensor(b), advantage, level, mask, 0.5)) for b in (9.0, -9.0, 0.25)]
    assert bound == [0.5, -0.5, 0.25]
    assert float(bound_beta(torch.tensor(9.0), advantage * 0, level, mask, 0.5)) == 0.0


def test_repo_d_subtracts_the_level():
    assert repo_d(torch.tensor([[1.0]]), torch.tensor([[-2.0]]), torch.tensor(0.5), 3.0).tolist() == [[4.0]]


def test_drop_small():
    assert drop_small(torch.tensor([[0.005, -0.02, 0.01]]), 0.01)[0].tolist() == pytest.approx([0.0, -0.02, 0.01])
