"""Every setting of the node ``entropo:``: its unit, bound, default and source, and what contradicts.

Sources are named in docs/objectives.md; "ours" marks a choice for which no source decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entropo_plugin.contradictions import check_together
from entropo_plugin.fields import ConfigError, group, key, parse_group, rows, shown

__all__ = ["ConfigError", "Settings", "describe", "parse", "shown"]

ESTIMATORS = ("repo_r", "repo_d", "repo_neutral")
LOSSES = ("adapo", "entropo_clip_cov", "entropo_kl_cov")
TRAINER_MODES = ("entropo_sync", "entropo_colocate_async", "entropo_separate_async")
SCHEDULES = ("constant", "linear", "cosine", "power")


@dataclass(frozen=True)
class Gains:
    """Gains of the law `pi` on log(target / entropy), as shares of the coefficient's largest size."""

    proportional: float = key(0.5, "gain on this step's error", low=0.0, high=100.0)
    integral: float = key(0.1, "gain on the summed error", low=0.0, high=100.0)


@dataclass(frozen=True)
class Anneal:
    """Schedule of a coefficient from its first value to `end` (CTA names no schedule)."""

    kind: str = key("constant", "form of the way from the first value to `end`", choices=SCHEDULES)
    end: float = key(0.0, "value at the end of the schedule", low=-100.0, high=100.0)
    hold: int = key(
        25,
        "steps at the first value before it moves; at 8 updates a step 200, where EM saw 73 % of entropy spent",
        unit="steps",
        low=0,
        high=10**7,
        source="EM",
    )
    steps: int = key(1000, "length of the way; for power, its time constant", unit="steps", low=1, high=10**7)
    power: float = key(1.0, "exponent of kind=power", low=1e-3, high=10.0)


@dataclass(frozen=True)
class Zeta:
    """REPO's coefficient and the law that moves it, once per global step."""

    law: str = key(
        "doubling",
        "how zeta follows the entropy",
        choices=("doubling", "fixed", "pi", "annealed"),
        source="SkyRL, EPRL",
    )
    initial: float = key(1e-3, "zeta of the first step", low=-10.0, high=10.0, source="SkyRL; unknown in the paper")
    low: float | None = key(
        None,
        "smallest |zeta|; null: 1e-4 for REPO-R, 1e-3 for REPO-D",
        low=1e-12,
        high=10.0,
        optional=True,
        source="SkyRL, EPRL",
    )
    high: float | None = key(
        None,
        "largest |zeta|; null: 0.05 for REPO-R, 10 for REPO-D",
        low=1e-12,
        high=100.0,
        optional=True,
        source="SkyRL, EPRL",
    )
    pi: Gains = group(Gains)
    anneal: Anneal = group(Anneal)


@dataclass(frozen=True)
class Repo:
    """REPO: the advantage is modified by the log-probability of the sampled token (EPRL)."""

    base: str = key("rloo", "advantage that REPO modifies", choices=("rloo", "grpo"), source="EPRL, LOOP")
    std: bool = key(False, "with base=grpo: divide by the group's standard deviation", source="verl")
    logp: str = key(
        "current",
        "log-prob that stands in: the current policy's, in the loss, or pi_old's, once a batch",
        choices=("current", "old"),
        source="SkyRL",
    )
    center: bool = key(False, "use log-prob + entropy, the exact form, in place of the raw log-prob", source="EPRL")
    logp_floor: float = key(-20.0, "log-probs below are raised to it", unit="nats", low=-1e4, high=0.0, source="SkyRL")
    min_advantage: float = key(
        0.0, "responses with a smaller |advantage| are dropped (LOOP: 0.01)", low=0.0, high=1e6, source="LOOP"
    )
    zeta: Zeta = group(Zeta)


@dataclass(frozen=True)
class Target:
    """The entropy that the controllers steer to."""

    kind: str = key(
        "initial",
        "initial: the first measured entropy, times `fraction`; value: `value`",
        choices=("initial", "value"),
        source="EPRL",
    )
    value: float | None = key(None, "target for kind=value", unit="nats per token", low=0.0, high=20.0, optional=True)
    fraction: float = key(1.0, "share of the initial entropy for kind=initial", low=1e-3, high=10.0)
    schedule: str = key("constant", "how the target goes from `start` to its value", choices=SCHEDULES)
    start: float | None = key(
        None,
        "first target of a schedule; null: the first measured entropy",
        unit="nats per token",
        low=0.0,
        high=20.0,
        optional=True,
    )
    hold: int = key(0, "steps at `start` before the target moves", unit="steps", low=0, high=10**7)
    steps: int = key(100, "length of the way; for power, its time constant", unit="steps", low=1, high=10**7)
    power: float = key(1.0, "exponent of schedule=power", low=1e-3, high=10.0)


@dataclass(frozen=True)
class Neutral:
    """The model-based law: the beta that leaves entropy as it is, plus a pull towards the target."""

    kappa: float = key(0.1, "share of the distance to the target that one step is asked to close", low=0.0, high=10.0)
    cap: float = key(2.0, "largest |beta|", low=0.0, high=1e3)
    share: float = key(0.5, "mean |beta * L| is at most this share of mean |advantage|", low=0.0, high=10.0)


@dataclass(frozen=True)
class ClipHigh:
    """ADAPO's upper clip, `1 + clip_high`, and the law that moves it, once per global step."""

    law: str = key(
        "multiplicative",
        "how clip_high follows the entropy; the paper's step is unpublished",
        choices=("multiplicative", "additive", "pi", "annealed", "fixed"),
        source="ours, after EPRL; additive: MAI-Thinking-1",
    )
    initial: float = key(0.28, "clip_high of the first step", low=0.0, high=100.0, source="DAPO")
    low: float = key(0.05, "smallest clip_high; below clip_low it pushes entropy down", low=0.0, high=100.0)
    high: float = key(5.0, "largest clip_high", low=0.0, high=100.0)
    factor: float = key(1.1, "law=multiplicative: one step's factor", low=1.0, high=10.0)
    delta: float = key(
        0.25, "law=additive: one step's change of the offset", low=0.0, high=10.0, source="MAI-Thinking-1"
    )
    offset: float = key(
        0.0,
        "law=additive: first k of the ratio's upper bound 1 / (1 - clip_low) + k, in place of `initial`",
        low=0.0,
        high=100.0,
        source="MAI-Thinking-1",
    )
    offset_max: float = key(2.5, "law=additive: largest k", low=0.0, high=100.0, source="MAI-Thinking-1")
    pi: Gains = group(Gains)
    anneal: Anneal = group(Anneal)


@dataclass(frozen=True)
class Adapo:
    """ADAPO: asymmetric clipping whose upper bound adapts (EPRL)."""

    clip_low: float = key(0.2, "lower clip of the ratio, 1 - clip_low", low=0.0, high=0.99, source="DAPO")
    clip_high: ClipHigh = group(ClipHigh)
    clip_ratio_c: float = key(3.0, "dual clip for negative advantages", low=1.000001, high=1e6, source="verl")
    ratio_min: float | None = key(
        None,
        "outer hard clip of the ratio from below; null: none",
        low=0.0,
        high=1.0,
        optional=True,
        source="MAI-Thinking-1",
    )
    ratio_max: float | None = key(
        None,
        "outer hard clip of the ratio from above; null: none",
        low=1.0,
        high=1e9,
        optional=True,
        source="MAI-Thinking-1",
    )


SCOPES = ("global", "mini_batch", "micro_batch")
SCOPE = "tokens that share means and quota: the rollout batch's, an optimizer step's, or as in verl a micro-batch's"
COVARIANCES = ("none", "clip_cov", "kl_cov")


@dataclass(frozen=True)
class ClipCov:
    """Clip-Cov: random tokens of a band of covariance give no gradient (EM); `anneal` moves `ratio`."""

    ratio: float = key(2e-4, "share of the response tokens that is dropped", low=0.0, high=1.0, source="EM")
    band: str = key(
        "absolute",
        "absolute: [low, high] in nats; quantile: [low_quantile, high_quantile] of the batch",
        choices=("absolute", "quantile"),
    )
    low: float = key(1.0, "band=absolute: smallest covariance", unit="nats", low=-1e6, high=1e6, source="EM")
    high: float = key(5.0, "band=absolute: largest covariance", unit="nats", low=-1e6, high=1e6, source="EM")
    low_quantile: float = key(0.98, "band=quantile: lower quantile of the covariance", low=0.0, high=1.0)
    high_quantile: float = key(0.9998, "band=quantile: upper quantile of the covariance", low=0.0, high=1.0)
    clip_low: float = key(1.0, "lower clip of the ratio", low=0.0, high=1.0, source="EM")
    clip_high: float = key(1.0, "upper clip of the ratio", low=0.0, high=100.0, source="EM")
    seed: int = key(0, "seed of the choice", low=0, high=2**31 - 1)
    scope: str = key("global", SCOPE, choices=SCOPES)
    anneal: Anneal = group(Anneal)


@dataclass(frozen=True)
class KlCov:
    """KL-Cov: the tokens of highest covariance pay for leaving pi_old (EM).

    `anneal` moves `beta`, `anneal_ratio` moves `ratio`.
    """

    ratio: float = key(
        2e-3, "share of the response tokens; EM: 2e-3 at 7B, 2e-4 at 32B", low=0.0, high=1.0, source="EM"
    )
    beta: float = key(1.0, "weight of the penalty", low=0.0, high=1e3, source="EM")
    penalty: str = key(
        "abs",
        "abs: |d|; k2: d^2 / 2; k3: exp(d) - 1 - d; with d = log p - log p_old",
        choices=("abs", "k2", "k3"),
        source="abs: EM's code; k2, k3: ours",
    )
    seed: int = key(0, "seed that orders tokens of equal covariance", low=0, high=2**31 - 1)
    scope: str = key("global", SCOPE, choices=SCOPES)
    anneal: Anneal = group(Anneal)
    anneal_ratio: Anneal = group(Anneal)


@dataclass(frozen=True)
class EntropyCoeff:
    """verl's entropy bonus, `actor_rollout_ref.actor.entropy_coeff`, moved once per global step."""

    law: str = key(
        "fixed",
        "fixed: verl's own constant; additive: one `delta` up below the target, one down above it",
        choices=("fixed", "annealed", "additive", "multiplicative", "pi"),
        source="additive: after Skywork-OR1",
    )
    initial: float | None = key(
        None,
        "coefficient of the first step; null: actor_rollout_ref.actor.entropy_coeff",
        low=0.0,
        high=10.0,
        optional=True,
    )
    low: float = key(0.0, "smallest coefficient", low=0.0, high=10.0)
    high: float = key(0.05, "largest coefficient", low=0.0, high=10.0)
    delta: float = key(0.001, "law=additive: one step's change", low=0.0, high=10.0)
    factor: float = key(1.1, "law=multiplicative: one step's factor", low=1.0, high=10.0)
    pi: Gains = group(Gains)
    anneal: Anneal = group(Anneal)


@dataclass(frozen=True)
class Monitor:
    """What is written beside the metrics."""

    tokens: int = key(
        0, "tokens a step, those that cost most entropy, written to tokens.jsonl with their text", low=0, high=10_000
    )
    tokens_megabytes: int = key(50, "largest size of that file; then the oldest steps go", unit="MB", low=1, high=500)
    folder: str | None = key(None, "folder of that file; null: beside verl's log (docs/report.md)", optional=True)


@dataclass(frozen=True)
class Settings:
    """The whole node ``entropo:``."""

    repo: Repo = group(Repo)
    target: Target = group(Target)
    neutral: Neutral = group(Neutral)
    adapo: Adapo = group(Adapo)
    clip_cov: ClipCov = group(ClipCov)
    kl_cov: KlCov = group(KlCov)
    covariance: str = key(
        "none",
        "Clip-Cov or KL-Cov on top of whatever policy loss runs, with the keys of its group",
        choices=COVARIANCES,
    )
    entropy_coeff: EntropyCoeff = group(EntropyCoeff)
    idle_steps: int = key(
        20, "steps without effect after which a method is reported; 0: never", unit="steps", low=0, high=10**7
    )
    monitor: Monitor = group(Monitor)
    host: str = key(
        "auto",
        "auto: verl's own devices; cpu: our CPU host, for machines without an accelerator",
        choices=("auto", "cpu"),
    )
    resume: str = key(
        "strict",
        "strict: refuse a state of another objective; reset: start its controller anew",
        choices=("strict", "reset"),
    )


def parse(node: Mapping[str, Any] | None) -> Settings:
    """Settings from the plain mapping under ``entropo:``.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of its bounds, or settings that contradict.
    """
    settings = parse_group(Settings, {} if node is None else node, "entropo")
    check_together(settings)
    return settings


def describe(kind: type = Settings, path: str = "entropo") -> list[tuple[str, Any, str, str, str]]:
    """Rows (key, default, allowed, help, source) for every setting below ``path``."""
    return rows(kind, path)
