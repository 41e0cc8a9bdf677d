"""What the REPO methods share: their settings, their base advantage, and their checks (arXiv 2603.11682)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropo_plugin.control import Anneal, Coefficient, Gains, Options
from entropo_plugin.control.settings import check_annealing, check_order
from entropo_plugin.fields import ConfigError, changed, group, key
from entropo_plugin.methods.base import Host, Method, Tokens
from entropo_plugin.objectives import (
    AGGREGATION_MODES,
    EntropyPull,
    drop_small,
    entropy_pull,
    group_advantage,
    leave_one_out,
    response_weights,
    stand_in,
)
from entropo_plugin.objectives.exact import in_row_blocks

# The laws that start from a value; `matched` measures its first one.
STARTED = "law=doubling|fixed|pi|annealed"


@dataclass(frozen=True)
class Zeta:
    """REPO's coefficient and the law that moves it, once per global step."""

    law: str = key(
        "doubling",
        "how zeta follows the entropy; doubling: the paper's; matched: measured from the batch that it acts on",
        choices=("doubling", "matched", "fixed", "pi", "annealed"),
        source="doubling: SkyRL, arXiv 2603.11682; others: ours",
    )
    initial: float = key(
        1e-3, "zeta of the first step", low=-10.0, high=10.0, source="SkyRL; unknown in the paper", when=STARTED
    )
    low: float | None = key(
        None,
        "smallest |zeta|; null: 1e-4 for REPO-R, 1e-3 for REPO-D",
        low=1e-12,
        high=10.0,
        optional=True,
        source="SkyRL, arXiv 2603.11682",
        when="law=doubling",
    )
    high: float | None = key(
        None,
        "largest |zeta|; null: 0.05 for REPO-R, 1 for its law `matched`, 10 for REPO-D",
        low=1e-12,
        high=100.0,
        optional=True,
        source="SkyRL, arXiv 2603.11682",
        when="law=doubling|matched|pi",
    )
    pi: Gains = group(Gains, when="law=pi")
    anneal: Anneal = group(Anneal, when="law=annealed")


@dataclass(frozen=True)
class Repo:
    """REPO: the advantage is modified by the log-probability of the sampled token (arXiv 2603.11682)."""

    base: str = key(
        "rloo", "advantage that REPO modifies", choices=("rloo", "grpo"), source="arXiv 2603.11682, apple/ml-loop"
    )
    std: bool = key(False, "with base=grpo: divide by the group's standard deviation", source="verl", when="base=grpo")
    logp: str = key(
        "current",
        "the log-prob that is used: the current policy's, in the loss, or pi_old's, once a batch",
        choices=("current", "old"),
        source="SkyRL",
    )
    center: bool = key(
        False, "use log-prob + entropy, the exact form, in place of the raw log-prob", source="arXiv 2603.11682"
    )
    logp_floor: float = key(-20.0, "log-probs below are raised to it", unit="nats", low=-1e4, high=0.0, source="SkyRL")
    min_advantage: float = key(
        0.0,
        "responses with a smaller |advantage| are dropped (apple/ml-loop: 0.01)",
        low=0.0,
        high=1e6,
        source="apple/ml-loop",
    )
    zeta: Zeta = group(Zeta)


# The settings of the base advantage, which only our own estimators compute.
BASE = ("repo.base", "repo.std", "repo.min_advantage")


class RepoMethod(Method):
    """A method that modifies the advantage, ``A - beta L``, on whatever advantages the run has.

    Behind its own estimator those are leave-one-out advantages; behind any other, that estimator's.
    """

    node, settings_type = "repo", Repo
    family = "forms of REPO"
    baseline_keys = BASE
    # bounds of |zeta| where the settings leave them open
    bounds = (1e-4, 0.05)

    def __init__(self, settings: Any, host: Host):
        super().__init__(settings, host)
        self.changed = changed(settings.repo, "repo.")

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        repo = settings.repo
        check_order("entropo.repo.zeta.low", repo.zeta.low, "entropo.repo.zeta.high", repo.zeta.high)
        check_annealing("entropo.repo.zeta", repo.zeta.law, repo.zeta.anneal)

    @property
    def ours(self) -> bool:
        """Whether the base advantage is our own estimator's."""
        return self.host.estimator == self.estimator

    def baseline(self, rewards: Tensor, group: Tensor) -> Tensor:
        repo = self.settings
        if repo.base == "rloo":
            advantage = leave_one_out(rewards, group)
        else:
            advantage = group_advantage(rewards, group, repo.std)
        return drop_small(advantage, repo.min_advantage)

    def zeta(self, label: str) -> Coefficient:
        """Its coefficient under the settings ``entropo.repo.zeta``."""
        zeta = self.settings.zeta
        low, high = self.zeta_bounds
        options = Options(gains=zeta.pi, anneal=zeta.anneal)
        return Coefficient(label, zeta.law, zeta.initial, low, high, "entropo.repo.zeta.high", options, nothing=0.0)

    @property
    def zeta_bounds(self) -> tuple[float, float]:
        zeta = self.settings.zeta
        return (
            self.bounds[0] if zeta.low is None else zeta.low,
            self.bounds[1] if zeta.high is None else zeta.high,
        )

    def stand_in(self, tokens: Tokens, exact: bool) -> Tensor:
        """``L``, or the raw log-prob in its place."""
        return stand_in(tokens.log_prob, tokens.entropy if exact else None, self.settings.logp_floor)

    def with_centred(self, tokens: Tokens, shaped: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """``shaped(A, L)`` with the exact L, block by block: no L of the whole batch is held."""
        assert tokens.entropy is not None
        floor = self.settings.logp_floor
        return in_row_blocks(
            lambda advantage, logp, entropy: shaped(advantage, stand_in(logp, entropy, floor)),
            tokens.advantage,
            tokens.log_prob,
            tokens.entropy,
        )

    def pull_of(self, tokens: Tokens, least: float = 0.0) -> EntropyPull:
        """How this batch pulls on entropy, its tokens weighed as the host's loss weighs them."""
        assert tokens.entropy is not None
        weight = response_weights(tokens.mask, self.host.loss_agg_mode).expand(tokens.mask.shape)
        floor = self.settings.logp_floor
        return entropy_pull(tokens.log_prob, tokens.entropy, tokens.advantage, tokens.mask, weight, floor, least)

    def check(self) -> Iterator[str]:
        measured = any(each.follows for each in self.coefficients().values())
        if measured and self.host.loss_agg_mode not in AGGREGATION_MODES:
            raise ConfigError(
                f"{self.host.agg_key}={self.host.loss_agg_mode}: {self.title} measures a batch as the loss weighs its "
                f"tokens, and does not know how this mode does. Set it to one of {' | '.join(AGGREGATION_MODES)}."
            )
        if not self.ours:
            for path, value in self.changed:
                if path in BASE:
                    raise ConfigError(
                        f"entropo.{path}={value} belongs to our own base advantage, but {self.host.estimator_key}="
                        f"{self.host.estimator} gives the advantages here. Delete one of the two."
                    )
        if self.ours and self.settings.base == "rloo" and self.host.group_size == 1:
            yield (
                f"one response to a prompt: {self.name} compares the responses to one prompt, so every advantage will "
                f"be 0 and nothing is learned.{self.host.remedy('group_size')}"
            )

    def check_zeta(self) -> None:
        """Refuse bounds and a first value that contradict each other."""
        zeta, (low, high) = self.settings.zeta, self.zeta_bounds
        if zeta.law == "doubling" and low > high:
            raise ConfigError(
                f"entropo.repo.zeta.low={low} exceeds entropo.repo.zeta.high={high}. Set both, the smaller one as low."
            )
        if zeta.law in ("doubling", "pi") and abs(zeta.initial) > high:
            raise ConfigError(
                f"entropo.repo.zeta.initial={zeta.initial} lies outside [-{high}, {high}]. "
                "Move it, or entropo.repo.zeta.high."
            )

    def idle(self) -> dict[str, str]:
        return {
            "entropo/shift": f"{self.title} changed no advantage: every reward of each prompt is equal, or the "
            f"coefficient is 0. See its coefficient and the rewards.{self.host.remedy('more_responses')}"
        }

    def describe(self) -> str:
        base = {"rloo": "leave-one-out", "grpo": "group"}[self.settings.base] if self.ours else self.host.estimator
        return f"{self.title} on {base} advantages"
