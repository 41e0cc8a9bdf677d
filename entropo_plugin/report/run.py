"""One run, and what its metrics say, whatever its trainer calls them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from entropo_plugin.report import names
from entropo_plugin.report.configuration import Setup
from entropo_plugin.report.description import Coefficient, Description
from entropo_plugin.report.search import natural
from entropo_plugin.report.series import Series, Steps
from entropo_plugin.report.tokens import CostlyToken


@dataclass(eq=False)
class Run:
    """One run.

    Attributes:
        name: what the report calls it.
        metrics: its series of finite values by verl's names.
        broken: the steps at which a metric is not finite, by its name.
        tokens: the tokens that cost it most entropy, costliest first.
        notes: what a reader should know about its log.
        about: what the run says about itself.
        folder: the folder above what it is called after, which tells runs of one name apart.
        setup: how it was started.
        place: its number among the runs, which decides on its colour.
    """

    name: str
    metrics: dict[str, Series]
    broken: dict[str, Steps] = field(default_factory=dict)
    tokens: list[CostlyToken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: Description = field(default_factory=Description)
    folder: str = ""
    setup: Setup = field(default_factory=Setup)
    place: int = 0

    def metric(self, *wanted: str) -> Series | None:
        """The first of these metrics that the run has."""
        return next((self.metrics[name] for name in wanted if len(self.metrics.get(name, ()))), None)

    @property
    def first_step(self) -> int:
        return int(min((steps[0] for steps in self._steps()), default=0))

    @property
    def last_step(self) -> int:
        return int(max((steps[-1] for steps in self._steps()), default=0))

    def _steps(self) -> list[Steps]:
        every = [*(data.steps for data in self.metrics.values()), *self.broken.values()]
        return [steps for steps in every if len(steps)]

    @property
    def entropy(self) -> Series | None:
        """Token-mean entropy, nats per token: ours, or the host's where ours is missing."""
        return self.metric(names.ENTROPY, names.VERL_ENTROPY, names.TRL_ENTROPY)

    @property
    def sound_entropy(self) -> Series | None:
        """Entropy, unless it is not finite at the end."""
        return self.entropy if self.sound(names.ENTROPY, names.VERL_ENTROPY) else None

    @property
    def score(self) -> Series | None:
        """Mean training score."""
        return self.metric(*names.SCORES)

    @property
    def sound_score(self) -> Series | None:
        """Training score, unless it is not finite at the end."""
        return self.score if self.sound(*names.SCORES) else None

    def coefficient(self, stem: str) -> Series | None:
        """The values of one that the run moves."""
        return self.metric(f"entropo/{stem}")

    def at_bound(self, stem: str) -> Series | None:
        """1 at the steps that left this coefficient at its bound, else 0."""
        return self.metric(f"entropo/{stem}{names.AT_BOUND}")

    @property
    def coefficients(self) -> dict[str, Coefficient]:
        """What the run moves, by the metric's name without ``entropo/``.

        First what the run's own description names, in its order; then every metric that is logged with its next value
        or with a flag for its bound.
        """
        said = dict(self.about.coefficients)
        for match in self._matches(names.MOVED):
            said.setdefault(match[1], Coefficient(match[1]))
        return {stem: what for stem, what in said.items() if f"entropo/{stem}" != names.TARGET}

    @property
    def controlled(self) -> bool:
        """Whether something acts on the run's entropy: it logs a coefficient or a target."""
        return names.TARGET in self.metrics or any(f"entropo/{stem}" in self.metrics for stem in self.coefficients)

    @property
    def validation(self) -> dict[str, Series]:
        """``{data source and variable: score}`` of verl's core validation metrics."""
        return {match[1]: self.metrics[match[0]] for match in self._matches(names.VALIDATION_MEAN)}

    @property
    def training_pass(self) -> dict[int, Series]:
        """``{k: pass@k}`` on the training prompts."""
        found = {int(match[1]): self.metrics[match[0]] for match in self._matches(names.TRAINING_PASS)}
        return dict(sorted(found.items()))

    @property
    def validation_passes(self) -> dict[str, dict[int, Series]]:
        """``{validation set: {k: pass@k}}``: verl's ``best@k``, and its ``mean@n`` for k = 1.

        A set's other variables, such as the reward beside the accuracy, are left out where verl names its core ones.
        """
        means, sets = self.validation, dict[str, dict[int, Series]]()
        for match in self._matches(names.VALIDATION_BEST):
            if match[1] in means or not means:
                sets.setdefault(match[1], {})[int(match[2])] = self.metrics[match[0]]
        for source in sets.keys() & means.keys():
            sets[source][1] = means[source]
        return {source: dict(sorted(sets[source].items())) for source in sorted(sets, key=natural)}

    def _matches(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        return [match for name in sorted(self.metrics) if (match := pattern.fullmatch(name)) and self.metric(name)]

    def turned(self, name: str) -> int | None:
        """The step from which on a metric is not finite to the end of what was logged; None where its last value is."""
        broken, finite = self.broken.get(name), self.metric(name)
        if broken is None or (finite is not None and broken[-1] < finite.last_step):
            return None
        return int(broken[0] if finite is None else broken[broken > finite.last_step][0])

    def sound(self, *metrics: str) -> bool:
        """Whether none of these ends in what is not finite: then finite values alone would say something else."""
        return all(self.turned(name) is None for name in metrics)

    def clock(self, unit: str) -> Series | None:
        """Tokens or hours since the start at each step that logs them, 0 before the first; None where none does."""
        total = self.metric(names.TOTAL[unit])
        for name, size in names.SPENT[unit].items() if total is None else ():
            if (each := self.metric(name)) is not None:
                steps, spent = np.append(each.steps[0] - 1, each.steps), np.append(0.0, np.cumsum(each.values) / size)
                return Series(steps, spent) if (each.values >= 0).all() else None
        return total
