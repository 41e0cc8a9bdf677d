"""A simulated training: an autoregressive softmax policy, groups of sampled responses, PPO's clip, Adam.

Several seeds run at once: every tensor begins with the run, and no run sees another. Each step is what a trainer does:
sample, leave-one-out advantages, shaping, updates on parts of the batch, and the measured entropy for the law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding

WIDTH, GROUP, RAMP = 64, 8, 40


@dataclass(frozen=True)
class Setting:
    """``sum``: the tokens must add up to the prompt's number. ``set``: most of them must be among the prompt's half."""

    task: str
    tokens: int
    vocabulary: int
    spread: float  # of the fixed logits, which give states of very different entropy, as pretraining does
    prompts: int  # per step, 8 responses each
    updates: int  # per step
    rate: float
    reward: float = 1.0  # of a right response
    kinds: int = 8  # of prompts


SETTINGS = {
    "S1": Setting("sum", tokens=4, vocabulary=10, spread=1.5, prompts=16, updates=4, rate=1e-3),
    "S2": Setting("set", tokens=24, vocabulary=32, spread=1.5, prompts=8, updates=4, rate=1e-3),
    "S2s": Setting("set", tokens=24, vocabulary=32, spread=1.5, prompts=8, updates=4, rate=1e-3, reward=10.0),
    "S3": Setting("set", tokens=64, vocabulary=64, spread=2.5, prompts=8, updates=1, rate=2e-3),
}


class Policy:
    """Two layers over the prompt, the position, the previous token and the progress; ``(runs, ...)`` parameters."""

    def __init__(self, setting: Setting, progress: int, draws: list[torch.Generator]):
        sizes = (setting.kinds, setting.tokens, setting.vocabulary + 1, progress)
        self.tables = [normal(draws, 0.3, rows, WIDTH) for rows in sizes]
        self.inner = normal(draws, WIDTH**-0.5, WIDTH, WIDTH), torch.zeros(len(draws), 1, WIDTH)
        outer = normal(draws, 0.1 * WIDTH**-0.5, WIDTH, setting.vocabulary)
        self.outer = outer, torch.zeros(len(draws), 1, setting.vocabulary)
        self.fixed = normal(draws, setting.spread, setting.vocabulary + 1, setting.vocabulary)
        self.parameters = [*self.tables, *self.inner, *self.outer]
        for parameter in self.parameters:
            parameter.requires_grad_()

    def logits(self, states: list[Tensor]) -> Tensor:
        """``(runs, n, vocabulary)`` for the ``(runs, n)`` indices of prompt, position, previous token and progress."""
        hidden = sum(look_up(table, index) for table, index in zip(self.tables, states, strict=True)).tanh()
        hidden = torch.baddbmm(self.inner[1], hidden, self.inner[0]).tanh()
        return torch.baddbmm(self.outer[1], hidden, self.outer[0]) + look_up(self.fixed, states[2])


def normal(draws: list[torch.Generator], scale: float, *shape: int) -> Tensor:
    return torch.stack([scale * torch.randn(shape, generator=draw) for draw in draws])


def look_up(table: Tensor, index: Tensor) -> Tensor:
    runs, rows, width = table.shape
    return embedding(index + rows * torch.arange(runs)[:, None], table.reshape(runs * rows, width))


class Task:
    """What a token adds to the progress, and which progress at the end is right; ``(runs, prompt kinds)``."""

    def __init__(self, setting: Setting, draws: list[torch.Generator]):
        kinds, tokens, vocabulary = setting.kinds, setting.tokens, setting.vocabulary
        if setting.task == "sum":
            self.gain = torch.arange(vocabulary).expand(len(draws), kinds, vocabulary)
            self.least = (
                torch.linspace(0.3, 0.7, kinds).mul(tokens * (vocabulary - 1)).round().expand(len(draws), kinds)
            )
            self.most, self.progress = self.least, tokens * (vocabulary - 1) + 1
        else:
            order = [torch.rand(kinds, vocabulary, generator=draw).argsort(1) for draw in draws]
            self.gain = (torch.stack(order) < vocabulary // 2).long()
            self.least = torch.full((len(draws), kinds), math.ceil(0.5 * tokens + 0.45 * math.sqrt(tokens)))
            self.most, self.progress = torch.full_like(self.least, tokens), tokens + 1

    def added(self, prompt: Tensor, token: Tensor) -> Tensor:
        runs = torch.arange(len(prompt))[:, None]
        return self.gain[runs, prompt, token]

    def right(self, prompt: Tensor, progress: Tensor) -> Tensor:
        return (self.least.gather(1, prompt) <= progress) & (progress <= self.most.gather(1, prompt))


@dataclass
class Batch:
    """One step's responses; ``(runs, responses, tokens)``, log-probs and entropies of pi_old, nats."""

    states: list[Tensor]
    token: Tensor
    logp: Tensor
    entropy: Tensor
    advantage: Tensor
    reward: Tensor  # (runs, responses)


@dataclass
class Trace:
    """What a run did; ``(runs, steps)``, entropies in nats."""

    entropy: Tensor
    target: Tensor
    reward: Tensor
    coefficient: Tensor
    at_bound: Tensor

    def rms(self, first: int) -> Tensor:
        """Error of each run from step ``first`` on, in % of its target."""
        error = self.entropy[:, first:] / self.target[:, first:] - 1
        return 100 * error.square().mean(1).sqrt()


class Simulation:
    def __init__(self, setting: Setting, law, fraction: float, seeds: list[int], ramp: int = RAMP):
        draws = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
        self.setting, self.law, self.fraction, self.draw, self.ramp = setting, law, fraction, draws[0], ramp
        self.task = Task(setting, draws)
        self.policy = Policy(setting, self.task.progress, draws)
        self.optimizer = torch.optim.Adam(self.policy.parameters, lr=setting.rate)
        self.first: list[float] = []

    def run(self, steps: int) -> Trace:
        rows = [self.step(step) for step in range(steps)]
        return Trace(*(torch.tensor(column).double().T for column in zip(*rows, strict=True)))

    def step(self, step: int) -> tuple[list[float], ...]:
        batch = self.sample()
        entropy = batch.entropy.double().mean((1, 2)).tolist()
        self.first = self.first or entropy
        target, following = self.target(step), self.target(step + 1)
        self.update(batch, self.law.shape(batch, entropy, target, following))
        used, bound = list(self.law.coefficients), [float(bound) for bound in self.law.at_bound]
        self.law.answer(entropy, target)
        return entropy, target, (batch.reward / self.setting.reward).mean(1).tolist(), used, bound

    def target(self, step: int) -> list[float]:
        """From the first entropy to ``fraction`` of it in ``ramp`` steps; at once if that is 0."""
        share = 1 + (self.fraction - 1) * (min(1.0, step / self.ramp) if self.ramp else 1.0)
        return [share * first for first in self.first]

    @torch.no_grad()
    def sample(self) -> Batch:
        runs, count = len(self.policy.fixed), self.setting.prompts * GROUP
        shape, tokens = (runs, count), self.setting.tokens
        kinds = torch.randint(self.setting.kinds, (runs, self.setting.prompts), generator=self.draw)
        prompt, progress = kinds.repeat_interleave(GROUP, 1), torch.zeros(shape, dtype=torch.long)
        token, seen, logits = torch.full(shape, self.setting.vocabulary), [], []
        for position in range(tokens):
            states = [prompt, torch.full(shape, position), token, progress]
            seen.append(states)
            logits.append(self.policy.logits(states))
            chance = logits[-1].softmax(-1).flatten(0, 1)
            token = torch.multinomial(chance, 1, generator=self.draw).view(shape)
            progress = progress + self.task.added(prompt, token)
        states = [torch.stack(column, -1) for column in zip(*seen, strict=True)]
        chosen = torch.cat([states[2][..., 1:], token[..., None]], -1)
        logp, entropy = statistics(torch.stack(logits, 2), chosen)
        reward = self.setting.reward * self.task.right(prompt, progress).float()
        group = reward.view(runs, -1, GROUP)
        advantage = ((group - group.mean(-1, keepdim=True)) * GROUP / (GROUP - 1)).view(runs, count, 1)
        return Batch(states, chosen, logp, entropy, advantage.expand_as(logp), reward)

    def update(self, batch: Batch, advantage: Tensor) -> None:
        count = advantage.shape[1]
        for rows in torch.randperm(count, generator=self.draw).split(count // self.setting.updates):
            states = [state[:, rows].flatten(1) for state in batch.states]
            shape = advantage[:, rows].shape
            logits = self.policy.logits(states).view(*shape, -1)
            logp, entropy = statistics(logits, batch.token[:, rows])
            gain = self.law.shape_current(advantage[:, rows], logp.detach())
            loss = clipped(logp - batch.logp[:, rows], gain, self.law.clip_high) - self.law.bonus * entropy
            self.optimizer.zero_grad()
            loss.mean((1, 2)).sum().backward()
            clip_gradients(self.policy.parameters)
            self.optimizer.step()


def statistics(logits: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    logp = logits.log_softmax(-1)
    return logp.gather(-1, token[..., None])[..., 0], -(logp.exp() * logp).sum(-1)


def clipped(difference: Tensor, advantage: Tensor, high: Tensor | float) -> Tensor:
    """PPO's surrogate with clip_low .2 and the dual clip at 3."""
    ratio = difference.clamp(-20, 20).exp()
    bounded = torch.minimum(ratio.clamp(min=0.8), 1 + torch.as_tensor(high))
    worse = torch.maximum(-advantage * ratio, -advantage * bounded)
    return torch.where(advantage < 0, torch.minimum(-3 * advantage, worse), worse)


def clip_gradients(parameters: list[Tensor]) -> None:
    """Each run's gradient to a norm of at most 1."""
    norm = sum(parameter.grad.flatten(1).square().sum(1) for parameter in parameters).sqrt()
    scale = 1 / norm.clamp(min=1)
    for parameter in parameters:
        parameter.grad *= scale.view(-1, *[1] * (parameter.dim() - 1))
