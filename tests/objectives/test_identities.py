"""The identities that the methods rest on, on tabular softmax policies in fp64, by central differences.

p = softmax(z), L = log p + H, A0 = A - E_p A.
"""

import math

import pytest
import torch

from entropo_plugin.objectives import adapo, entropy_pull, repo_neutral, stand_in

STEP = 1e-6
SEEDS = pytest.mark.parametrize("seed", range(5))


def entropy(z):
    logp = z.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


def world(seed, actions=9):
    draw = torch.Generator().manual_seed(seed)
    z, gain = (torch.randn(actions, generator=draw).double() * 1.5 for _ in range(2))
    logp = z.log_softmax(-1)
    return z, logp.exp(), logp + entropy(z), gain


def mean(p, values):
    return (p * values).sum()


def cov(p, x, y):
    return mean(p, (x - mean(p, x)) * (y - mean(p, y)))


def slope(z, direction):
    """dH along ``direction``, central difference."""
    return float((entropy(z + STEP * direction) - entropy(z - STEP * direction)) / (2 * STEP))


def close(found, expected):
    assert found == pytest.approx(float(expected), rel=0, abs=5e-9)


def ascent(z, p, advantage):
    """Logit step of the expected policy gradient that the library's own surrogate gives at ``p_old = p``."""
    at = z.clone().requires_grad_()
    logp, old = at.log_softmax(-1)[:, None], z.log_softmax(-1)[:, None]
    loss = adapo(logp, old, advantage[:, None], torch.ones_like(logp), low=0.2, high=0.2)
    (gradient,) = torch.autograd.grad((p[:, None] * loss).sum(), at)
    return -gradient


@SEEDS
def test_1_gradient_of_entropy(seed):
    z, p, level, _ = world(seed)
    at = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(entropy(at), at)
    torch.testing.assert_close(gradient, -p * level, rtol=0, atol=1e-14)
    for i, unit in enumerate(torch.eye(len(z)).double()):
        close(slope(z, unit), -p[i] * level[i])


@SEEDS
def test_2_policy_gradient(seed):
    z, p, _level, gain = world(seed)
    centred = gain - mean(p, gain)
    torch.testing.assert_close(ascent(z, p, gain), p * centred, rtol=0, atol=1e-14)
    close(slope(z, p * centred), -cov(p, p.log(), p * centred))


@SEEDS
def test_3_natural_policy_gradient(seed):
    z, p, _, gain = world(seed)
    close(slope(z, gain), -cov(p, p.log(), gain))


@SEEDS
def test_4_one_sampled_action(seed):
    z, p, level, gain = world(seed)
    gain = gain - mean(p, gain)
    each = -gain * (p * level - mean(p, p * level))
    for a, unit in enumerate(torch.eye(len(z)).double()):
        close(slope(z, gain[a] * (unit - p)), each[a])
    close(float(mean(p, each)), -cov(p, p.log(), p * gain))


@SEEDS
def test_5_repo_raises_entropy_and_neutral_beta_keeps_it(seed):
    z, p, level, gain = world(seed)
    gain, restoring = gain - mean(p, gain), mean(p, p * level**2)
    beta = mean(p, p * gain * level) / restoring
    close(slope(z, p * -0.7 * level), 0.7 * restoring)
    close(slope(z, ascent(z, p, repo_neutral(gain, level, beta))), 0)
    assert restoring > 0


@SEEDS
@pytest.mark.parametrize("high", [0.05, 0.28, 5.0])
def test_6_ppos_clip(seed, high):
    z, p, level, gain = world(seed)
    old = (z + 0.3 * torch.randn(len(z), generator=torch.Generator().manual_seed(seed)).double()).log_softmax(-1)
    at = z.clone().requires_grad_()
    logp = at.log_softmax(-1)
    loss = adapo(logp[None], old[None], gain[None], torch.ones(1, len(z)), low=0.2, high=high, dual=1e9)[0]
    (gradient,) = torch.autograd.grad((old.exp() * loss).sum(), at)
    ratio = p / old.exp()
    kept = (~((gain > 0) & (ratio > 1 + high) | (gain < 0) & (ratio < 0.8))).double()
    torch.testing.assert_close(-gradient, p * (kept * gain - mean(p, kept * gain)), rtol=0, atol=1e-14)
    close(slope(z, -gradient), -mean(p, p * level * (kept * gain - mean(p, kept * gain))))


@SEEDS
def test_7_a_ratio_within_the_clip_bounds_entropy(seed):
    _, p, *_ = world(seed)
    draw = torch.Generator().manual_seed(seed)
    low, high = 0.2, 0.28
    for _ in range(20):
        raw = 1 + torch.rand(len(p), generator=draw).double() * 0.2 - 0.1
        moved = p * raw / mean(p, raw)
        ratio = moved / p
        assert (ratio >= 1 - low).all() and (ratio <= 1 + high).all()
        before, after = (float(-(q * q.log()).sum()) for q in (p, moved))
        assert (1 - low) * before <= after <= (1 + high) * before


@SEEDS
def test_8_one_raised_logit(seed):
    z, p, _level, _ = world(seed)
    for i, unit in enumerate(torch.eye(len(z)).double()):
        score = p[i] * (entropy(z) + p[i].log())
        close(slope(z, unit), -score)
        assert math.copysign(1, score) == math.copysign(1, p[i] - math.exp(-entropy(z)))


def test_the_sampled_neutral_beta_nears_the_exact_one():
    z, p, level, gain = world(2)
    gain = gain - mean(p, gain)
    draw = torch.multinomial(p, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))[None]
    logp, held = p.log()[draw], entropy(z).expand(draw.shape)
    stats = entropy_pull(logp, held, gain[draw], torch.ones_like(logp))
    beta = stats.pull / stats.restoring
    exact = mean(p, p * gain * level) / mean(p, p * level**2)
    assert float(beta) == pytest.approx(float(exact), abs=0.02)


def test_centred_repo_raises_entropy_in_every_policy():
    raised = []
    for seed in range(300):
        z, p, _level, gain = world(seed, actions=6)
        gain = gain - mean(p, gain)
        exact = stand_in(z.log_softmax(-1), entropy(z).expand_as(z))
        raised.append(slope(z, ascent(z, p, gain - 0.05 * gain.abs() * exact)) > slope(z, ascent(z, p, gain)))
    assert sum(raised) == 300
