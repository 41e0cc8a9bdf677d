"""Says when a method has had no effect for a while, with the likely cause and the key to change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from entropo_plugin.hosts.verl.startup.plan import ACTOR, Plan

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Sign:
    """One way of having no effect: when it shows in a step's metrics, and what to say of it."""

    shows: Callable[[Metrics], bool]
    cause: str


def _is(name: str, value: float) -> Callable[[Metrics], bool]:
    return lambda metrics: metrics.get(name) == value


def signs(plan: Plan) -> dict[str, Sign]:
    """Everything that can go without effect under this plan, by name."""
    found = {}
    found["shift"] = Sign(
        _is("entropo/shift", 0.0),
        f"{plan.estimator} changed no advantage: every reward of each prompt is equal, or the coefficient is 0. "
        "See entropo/zeta and the rewards, or raise actor_rollout_ref.rollout.n",
    )
    found["selection"] = Sign(_is("entropo/selection/share", 0.0), _selection(plan))
    if plan.loss == "adapo":
        cause = "no token reached ADAPO's upper bound 1 + clip_high, so moving it does nothing. "
        cause += f"Lower entropo.adapo.clip_high.initial, or take more optimizer steps a batch ({ACTOR}."
        found["clip"] = Sign(_is("entropo/clip/above_positive", 0.0), cause + "ppo_mini_batch_size)")
    return found


def _selection(plan: Plan) -> str:
    cause = f"{plan.covariance} selected no token: ratio times the number of tokens is below 1"
    if plan.covariance == "clip_cov":
        about = plan.settings.clip_cov
        cause += f", or no covariance lies in the band [{about.low}, {about.high}] (entropo/selection/ceiling is the "
        cause += "highest that a token of the largest advantage can have). Set entropo.clip_cov.band=quantile, or raise"
        return cause + " entropo.clip_cov.ratio"
    return cause + ". Raise entropo.kl_cov.ratio"


class Idle:
    """Counts for how many steps running each sign has shown.

    Args:
        plan: what runs.
    """

    def __init__(self, plan: Plan):
        self.limit, self.signs = plan.settings.idle_steps, signs(plan)
        self.count = dict.fromkeys(self.signs, 0)

    def observe(self, metrics: Metrics) -> list[str]:
        """Sentences for the methods that reach the limit with this step."""
        found = []
        for name, sign in self.signs.items():
            self.count[name] = self.count[name] + 1 if sign.shows(metrics) else 0
            if self.limit and self.count[name] == self.limit:
                found.append(f"for {self.limit} steps {sign.cause}.")
        return found
