"""REPO's shaping and the covariance methods' choice on any batch: hostile log-probs, NaN outside the mask."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.objectives import (
    PullMemory,
    covariance,
    entropy_pull,
    kl_penalty,
    neutral_step,
    quantile_band,
    repo_d_beta,
    repo_neutral,
    repo_r,
    select_band,
    select_top,
    stand_in,
    step_cost,
    token_keys,
)

# p log p and p (log p + H)^2 have no limit that floats know at -inf, so the batch scalars get the largest finite ones
FINITE = st.sampled_from([-1e4, -700.0, -20.0, -1.0, -1e-6, 0.0]) | st.floats(-10.0, 0.0)


@st.composite
def batches(draw, logp=FINITE):
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 6))

    def matrix(cell):
        return torch.tensor([[draw(cell) for _ in range(width)] for _ in range(rows)], dtype=torch.float64)

    mask = matrix(st.booleans()).bool()
    poisoned = [matrix(each) for each in (logp, st.floats(-3.0, 3.0), st.floats(0.0, 12.0))]
    return mask, *(each.masked_fill(~mask, draw(st.sampled_from([math.nan, math.inf, 0.0]))) for each in poisoned)


@settings(max_examples=60, deadline=None)
@given(batches(FINITE | st.just(-math.inf)), st.floats(-0.3, 0.3))
def test_repo_r_is_finite_and_never_changes_a_sign(batch, zeta):
    mask, logp, advantage, _ = batch
    shaped = repo_r(advantage, stand_in(logp), zeta)[mask]
    assert shaped.isfinite().all() and (shaped * advantage[mask] >= 0).all()
    assert (shaped.abs() <= advantage[mask].abs() * (1 + abs(zeta) * 20) + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(batches(), st.floats(-10.0, 10.0))
def test_repo_d_and_the_neutral_law_ignore_what_lies_outside_the_mask(batch, zeta):
    mask, logp, advantage, entropy = batch
    level = stand_in(logp, entropy)
    clean = [each.masked_fill(~mask, 0.0) for each in (advantage, logp, entropy)]
    cost = step_cost(advantage, logp, entropy, mask)
    assert torch.equal(cost, step_cost(*clean, mask))
    assert repo_neutral(advantage, level, repo_d_beta(float(cost), zeta))[mask].isfinite().all()
    stats = entropy_pull(logp, entropy, advantage, mask)
    assert stats == entropy_pull(clean[1], clean[2], clean[0], mask)
    beta = neutral_step(stats, PullMemory(), 1.0, 1.0, 1.1, authority=0.5, authority_down=0.5).beta
    assert math.isfinite(beta)
    shaped = repo_neutral(advantage, level, beta)[mask]
    moved, size = (shaped - advantage[mask]).abs().sum(), advantage[mask].abs().sum()
    assert shaped.isfinite().all() and moved <= 0.5 * size + 1e-9


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_advantage_stays_visible_after_repo_r(broken):
    advantage = torch.tensor([[1.0, broken, 0.0, -1.0]])
    shaped = repo_r(advantage, torch.full((1, 4), -2.0), 0.1)
    assert shaped.isfinite().tolist() == [[True, False, True, True]]
    torch.testing.assert_close(shaped[0, [0, 2, 3]], torch.tensor([1.2, 0.0, -0.8]))


@settings(max_examples=60, deadline=None)
@given(batches(FINITE | st.sampled_from([-math.inf, math.nan])), st.floats(0.0, 1.0), st.randoms())
def test_a_choice_is_a_quota_of_readable_response_tokens_whatever_their_order(batch, ratio, draw):
    mask, logp, advantage, _ = batch
    keys, order = [f"p_{n}_0" for n in range(len(mask))], list(range(len(mask)))
    draw.shuffle(order)
    found = []
    for rows in (range(len(mask)), order):
        at = torch.tensor(list(rows))
        cov, hashed = (
            covariance(logp[at], advantage[at], mask[at]),
            token_keys([keys[n] for n in rows], mask.shape[1], 1, 5),
        )
        top = select_top(cov, mask[at], ratio, hashed)
        band = select_band(cov, mask[at], ratio, hashed, *quantile_band(cov, 0.2, 0.9))
        found.append((top[at.argsort()], band[at.argsort()]))
    readable = mask & logp.isfinite()
    wanted = math.floor(Fraction(repr(ratio)) * int(mask.sum()))
    top, band = found[0]
    assert torch.equal(top, found[1][0]) and torch.equal(band, found[1][1])
    assert int(top.sum()) == min(wanted, int(readable.sum())) and int(band.sum()) <= wanted
    assert not (top & ~readable).any() and not (band & ~readable).any()


@settings(max_examples=60, deadline=None)
@given(batches(FINITE | st.just(-math.inf)), st.sampled_from(["abs", "k2", "k3"]), st.randoms())
def test_kl_covs_penalty_is_finite_and_touches_chosen_response_tokens_only(batch, kind, draw):
    mask, logp, _, entropy = batch
    chosen = torch.tensor([[draw.random() < 0.5 for _ in range(mask.shape[1])] for _ in range(len(mask))])
    logp = logp.requires_grad_()
    penalty = kl_penalty(logp, -entropy.detach(), mask, chosen, 2.0, kind)
    penalty.sum().backward()
    assert penalty.isfinite().all() and (penalty >= 0).all() and logp.grad.isfinite().all()
    assert not penalty[~(mask & chosen)].any() and not logp.grad[~(mask & chosen)].any()
