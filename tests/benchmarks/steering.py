"""The laws of entropo_plugin as the simulated training sees them: one coefficient for each run."""

from __future__ import annotations

import torch
from torch import Tensor

from entropo_plugin.control import Gains, additive, doubling, multiplicative
from entropo_plugin.control.laws import ProportionalIntegral
from entropo_plugin.objectives import (
    PullMemory,
    entropy_pull,
    matched_zeta,
    neutral_step,
    repo_d_beta,
    repo_matched,
    repo_r,
    stand_in,
)


def column(values) -> Tensor:
    return torch.tensor(values)[:, None, None]


class NoLaw:
    """Stock PPO. The others change what they need."""

    first, clip_high, bonus = 0.0, 0.2, 0.0

    def __init__(self, runs: int):
        self.coefficients = [self.first] * runs
        self.at_bound = [False] * runs
        self.prepare()

    def prepare(self) -> None:
        """Whatever a law remembers."""

    def shape(self, batch, entropy, target, following) -> Tensor:
        """Advantages as the loss gets them, once a step."""
        return batch.advantage

    def shape_current(self, advantage: Tensor, logp: Tensor) -> Tensor:
        """Advantages under the current policy's log-probs, in every update."""
        return advantage

    def answer(self, entropy, target) -> None:
        """The coefficients of the next step."""


class RepoR(NoLaw):
    """The paper's form and law."""

    first, low, high = 1e-3, 1e-4, 0.05

    def shape_current(self, advantage, logp):
        return repo_r(advantage, stand_in(logp), column(self.coefficients))

    def answer(self, entropy, target):
        self.coefficients = [self.law(run, *each) for run, each in enumerate(zip(entropy, target, strict=True))]
        self.at_bound = [abs(zeta) >= self.high for zeta in self.coefficients]

    def law(self, run, entropy, target):
        return doubling(self.coefficients[run], entropy, target, self.low, self.high)


class RepoRWide(RepoR):
    """Ten times the paper's bound, from .1."""

    first, high = 0.1, 0.5


class RepoRPI(RepoRWide):
    """The proportional-integral law within the same bound, with the gains that beat doubling in all four settings."""

    first, gains = 0.0, Gains(15.0, 0.5)

    def prepare(self):
        self.memories = [ProportionalIntegral(0.0, self.gains, signed=True) for _ in self.coefficients]

    def law(self, run, entropy, target):
        return self.memories[run](self.coefficients[run], entropy, target, self.low, self.high)


class RepoD(NoLaw):
    """beta = zeta |C|, zeta by doubling within [1e-3, 10]."""

    first, low, high = 1.0, 1e-3, 10.0

    def shape(self, batch, entropy, target, following):
        beta = [repo_d_beta(stats.pull, zeta) for stats, zeta in zip(pulls(batch), self.coefficients, strict=True)]
        return batch.advantage - column(beta) * (batch.logp + batch.entropy)

    answer, law = RepoR.answer, RepoR.law


class Matched(NoLaw):
    """REPO-R with the zeta that the batch itself asks for."""

    gain, high = 10.0, 1.0

    def prepare(self):
        self.memories = [PullMemory() for _ in self.coefficients]

    def shape(self, batch, *wanted):
        least = [memory.advantage_size for memory in self.memories]
        moves = [
            matched_zeta(*each, gain=self.gain, high=self.high)
            for each in zip(pulls(batch, least), self.memories, self.coefficients, *wanted, strict=True)
        ]
        self.coefficients, bound, none, self.memories = (list(values) for values in zip(*moves, strict=True))
        self.at_bound = [a or b for a, b in zip(bound, none, strict=True)]
        level = stand_in(batch.logp, batch.entropy)
        return repo_matched(batch.advantage, level, column(self.coefficients), column(least))


class Neutral(NoLaw):
    """The dimensionless model-based law."""

    gain, authority, authority_down, decay = 10.0, 1.0, 1.0, 0.9

    def prepare(self):
        self.memories = [PullMemory() for _ in self.coefficients]

    def shape(self, batch, *wanted):
        names = ("gain", "authority", "authority_down", "decay")
        constants = {name: getattr(self, name) for name in names}
        moves = [neutral_step(*each, **constants) for each in zip(pulls(batch), self.memories, *wanted, strict=True)]
        self.coefficients, self.at_bound, self.memories = (list(values) for values in zip(*moves, strict=True))
        return batch.advantage - column(self.coefficients) * (batch.logp + batch.entropy)


class NeutralHalfDown(Neutral):
    """Half of the authority where beta lowers entropy."""

    authority_down = 0.5


class NeutralFloor(Neutral):
    """The target as a floor."""

    authority_down = 0.0


class Adapo(NoLaw):
    """clip_high times or divided by 1.1 a step."""

    first, low, high = 0.28, 0.05, 5.0

    @property
    def clip_high(self):
        return column(self.coefficients)

    def answer(self, entropy, target):
        pairs = zip(self.coefficients, entropy, target, strict=True)
        self.coefficients = [multiplicative(*each, self.low, self.high) for each in pairs]
        self.at_bound = [not self.low < each < self.high for each in self.coefficients]


class Bonus(NoLaw):
    """An entropy bonus that moves by .001 a step within [0, .05]."""

    high = 0.05

    @property
    def bonus(self):
        return column(self.coefficients)

    def answer(self, entropy, target):
        pairs = zip(self.coefficients, entropy, target, strict=True)
        self.coefficients = [additive(*each, 0.0, self.high, delta=0.001) for each in pairs]
        self.at_bound = [not 0 < each < self.high for each in self.coefficients]


def pulls(batch, least=None):
    mask = torch.ones_like(batch.logp[0])
    fields = zip(batch.logp, batch.entropy, batch.advantage, least or [0.0] * len(batch.logp), strict=True)
    return [entropy_pull(*each, mask, least=smallest) for *each, smallest in fields]


LAWS = {
    "no control": NoLaw,
    "REPO-R .05, doubling": RepoR,
    "REPO-R .5, doubling": RepoRWide,
    "REPO-R .5, pi 15 + .5": RepoRPI,
    "REPO-R matched, 1": Matched,
    "REPO-D": RepoD,
    "model-based": Neutral,
    "model-based, .5 down": NeutralHalfDown,
    "model-based, a floor": NeutralFloor,
    "ADAPO": Adapo,
    "entropy bonus, additive": Bonus,
}
