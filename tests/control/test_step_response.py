"""Every law on a softmax bandit whose reward would drive entropy to 0: it reaches a target above and one below."""

import pytest
import torch

from entropo_plugin.control import Coefficient, ControlLoop, Gains, Options, Target, TargetTracker
from entropo_plugin.objectives import PullMemory, adapo, entropy_pull, neutral_step, repo_neutral

REWARD = torch.linspace(-1, 1, 8).double()


class Bandit:
    """One state, eight actions: ``dz = eta p (A0 - beta L)``, exact policy gradient steps (identities 2 and 5)."""

    def __init__(self):
        self.z = 2 * REWARD

    def look(self):
        logp = self.z.log_softmax(-1)
        entropy = -(logp.exp() * logp).sum()
        return logp, logp.exp(), float(entropy), logp + entropy

    def step(self, advantage, rate=0.3):
        p = self.look()[1]
        self.z += rate * p * (advantage - (p * advantage).sum())


def run(coefficient, target, steps=600):
    """Entropies of a run in which the coefficient is REPO's beta."""
    bandit, seen, control = Bandit(), [], ControlLoop({"beta": coefficient}, target)
    for step in range(steps):
        *_, entropy, level = bandit.look()
        seen.append(entropy)
        bandit.step(REWARD - control.value("beta") * level)
        control.observe(entropy, 1)
        control.updated = True
        control.end_step(step)
    return seen


LAWS = {
    "doubling": (0.01, 1e-3, 2.0, Options()),
    "multiplicative": (0.28, 0.05, 5.0, Options(signed=False)),
    "additive": (0.0, 0.0, 2.5, Options(signed=False, delta=0.05)),
    "pi": (0.0, 1e-3, 2.0, Options(gains=Gains(0.5, 0.1))),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("target", [0.9, 1.95])
def test_entropy_settles_at_its_target(law, target):
    initial, low, high, options = LAWS[law]
    coefficient = Coefficient("beta", law, initial, low, high, options=options)
    seen = run(coefficient, Target(kind="value", value=target))
    assert 1.3 < seen[0] < 1.7
    last = torch.tensor(seen[-200:])
    assert float(last.mean()) == pytest.approx(target, abs=0.06)
    assert float(last.std()) < {"doubling": 0.2, "pi": 0.01}.get(law, 0.1)


def test_without_control_entropy_is_lost():
    assert run(Coefficient("beta"), Target())[-1] < 0.2


@pytest.mark.parametrize("target", [0.9, 1.95])
def test_the_neutral_law_follows_a_ramp_from_sampled_tokens(target):
    settings = Target(kind="value", value=target, schedule="linear", steps=150)
    tracker, bandit, draw = TargetTracker(settings), Bandit(), torch.Generator().manual_seed(0)
    memory = PullMemory()
    for _ in range(500):
        logp, p, entropy, level = bandit.look()
        wanted = tracker.observe(entropy)
        tokens = torch.multinomial(p, 512, replacement=True, generator=draw)[None]
        gain, old, held = REWARD[tokens], logp[tokens], torch.full((1, 512), entropy).double()
        gain, mask = gain - gain.mean(), torch.ones(1, 512)
        stats = entropy_pull(old, held, gain, mask)
        beta, _, memory = neutral_step(
            stats, memory, entropy, wanted, tracker.at(entropy), authority=4.0, authority_down=4.0
        )
        bandit.step(repo_neutral(REWARD, level, beta))
    assert entropy == pytest.approx(target, abs=0.12)
    assert abs(entropy - wanted) < 0.12


def test_a_higher_clip_leaves_more_entropy():
    """Identity 6 over several updates of one batch: the bound that ADAPO moves changes entropy in the wanted sense."""
    left = {}
    for high in (0.05, 0.28, 5.0):
        z = torch.tensor([3.0, 0.0, 0.0, 0.0]).double().requires_grad_()
        old = z.detach().log_softmax(-1)
        advantage = torch.tensor([0.0, 1.0, 0.0, 0.0]).double()
        for _ in range(60):
            loss = adapo(z.log_softmax(-1)[None], old[None], advantage[None], torch.ones(1, 4), low=0.2, high=high)
            (gradient,) = torch.autograd.grad((old.exp() * loss).sum(), z)
            z = (z - 0.5 * gradient).detach().requires_grad_()
        logp = z.log_softmax(-1)
        left[high] = float(-(logp.exp() * logp).sum().detach())
    assert left[0.05] < left[0.28] < left[5.0]
