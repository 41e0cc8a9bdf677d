"""Settings that contradict each other, refused with the keys and what to set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entropo_plugin.fields import ConfigError

if TYPE_CHECKING:
    from entropo_plugin.config import ClipHigh, EntropyCoeff, Settings, Target, Zeta


def check_together(settings: Settings) -> None:
    """Raise ConfigError for the first contradiction."""
    repo, clip, cov, high = settings.repo, settings.adapo, settings.clip_cov, settings.adapo.clip_high
    _ordered("entropo.repo.zeta.low", repo.zeta.low, "entropo.repo.zeta.high", repo.zeta.high)
    _ordered("entropo.adapo.clip_high.low", high.low, "entropo.adapo.clip_high.high", high.high)
    _ordered("entropo.adapo.clip_high.offset", high.offset, "entropo.adapo.clip_high.offset_max", high.offset_max)
    _ordered("entropo.adapo.ratio_min", clip.ratio_min, "entropo.adapo.ratio_max", clip.ratio_max)
    _ordered("entropo.clip_cov.low", cov.low, "entropo.clip_cov.high", cov.high)
    _ordered("entropo.clip_cov.low_quantile", cov.low_quantile, "entropo.clip_cov.high_quantile", cov.high_quantile)
    _check_target(settings.target)
    _check_clip_high(high)
    _check_annealing("entropo.repo.zeta", repo.zeta)
    _check_entropy_coeff(settings.entropy_coeff)
    _check_covariance(settings)
    _check_end("entropo.adapo.clip_high.anneal.end", high.anneal.end, 100)
    _check_end("entropo.clip_cov.anneal.end", cov.anneal.end, 1)
    _check_end("entropo.kl_cov.anneal.end", settings.kl_cov.anneal.end, 1000)
    _check_end("entropo.kl_cov.anneal_ratio.end", settings.kl_cov.anneal_ratio.end, 1)
    _check_end("entropo.entropy_coeff.anneal.end", settings.entropy_coeff.anneal.end, 10)
    if cov.scope == "micro_batch" and cov.band == "quantile":
        raise ConfigError(
            "entropo.clip_cov.scope=micro_batch is verl's own choice, with entropo.clip_cov.band=absolute."
        )
    if repo.std and repo.base == "rloo":
        raise ConfigError(
            "entropo.repo.std=true has no meaning with entropo.repo.base=rloo. Set base=grpo, or std=false."
        )


def _ordered(low_path: str, low: float | None, high_path: str, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{low_path}={low} exceeds {high_path}={high}. Swap them.")


def _check_target(target: Target) -> None:
    if target.kind == "value" and target.value is None:
        raise ConfigError("entropo.target.kind=value needs entropo.target.value, in nats per token, in [0, 20].")
    if target.kind == "initial" and target.value is not None:
        raise ConfigError(
            f"entropo.target.value={target.value} is ignored while entropo.target.kind=initial. "
            "Set entropo.target.kind=value, or leave the value out."
        )
    if target.schedule == "constant" and target.start is not None:
        raise ConfigError(
            f"entropo.target.start={target.start} is ignored while entropo.target.schedule=constant. "
            "Set entropo.target.schedule to one of linear | cosine | power, or leave the start out."
        )


def _check_clip_high(high: ClipHigh) -> None:
    _check_annealing("entropo.adapo.clip_high", high)
    if high.law not in ("additive", "fixed", "annealed") and not high.low <= high.initial <= high.high:
        raise ConfigError(
            f"entropo.adapo.clip_high.initial={high.initial} lies outside [{high.low}, {high.high}]. "
            "Move it, or entropo.adapo.clip_high.low and high."
        )
    if high.law != "additive" and high.offset != 0:
        raise ConfigError(
            f"entropo.adapo.clip_high.offset={high.offset} is ignored while entropo.adapo.clip_high.law={high.law}. "
            "Set the law to additive, or the offset to 0."
        )


def _check_entropy_coeff(group: EntropyCoeff) -> None:
    path = "entropo.entropy_coeff"
    _check_annealing(path, group)
    _ordered(f"{path}.low", group.low, f"{path}.high", group.high)
    if group.law == "fixed" and group.initial is not None:
        raise ConfigError(
            f"{path}.initial={group.initial} is ignored while {path}.law=fixed. Set the constant as "
            f"actor_rollout_ref.actor.entropy_coeff, or choose another law."
        )


def _check_covariance(settings: Settings) -> None:
    chosen = {"clip_cov": settings.clip_cov.scope, "kl_cov": settings.kl_cov.scope}.get(settings.covariance)
    if chosen == "micro_batch":
        raise ConfigError(
            f"entropo.{settings.covariance}.scope=micro_batch: with entropo.covariance the driver chooses the tokens. "
            "Set the scope to global or mini_batch."
        )


def _check_annealing(path: str, group: Zeta | ClipHigh | EntropyCoeff) -> None:
    """A schedule and the law that follows it belong together."""
    if group.law == "annealed" and group.anneal.kind == "constant":
        raise ConfigError(f"{path}.law=annealed needs {path}.anneal.kind, one of linear | cosine | power.")
    if group.law != "annealed" and group.anneal.kind != "constant":
        raise ConfigError(
            f"{path}.anneal.kind={group.anneal.kind} is ignored while {path}.law={group.law}. Set the law to annealed."
        )


def _check_end(path: str, end: float, high: float) -> None:
    """A schedule may end where its coefficient may start."""
    if not 0 <= end <= high:
        raise ConfigError(f"{path}={end}: out of range. Set {path} to a number in [0, {high}].")
