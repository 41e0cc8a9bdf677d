"""Entropy control for reinforcement learning of language models: a plugin for verl and TRL.

The functions for a notebook are imported when they are asked for; ``import entropo_plugin`` itself imports nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "StepTokens",
    "adapo",
    "ce_gppo",
    "clip_cov",
    "clip_cov_mask",
    "covariance",
    "entropy_pull",
    "fit_law",
    "group_advantage",
    "kl_cov",
    "kl_cov_mask",
    "leave_one_out",
    "pass_at_k",
    "repo_neutral",
    "repo_r",
    "stand_in",
    "step_metrics",
    "token_change",
]

if TYPE_CHECKING:
    from entropo_plugin.monitor import StepTokens, fit_law, pass_at_k, step_metrics, token_change
    from entropo_plugin.objectives import (
        adapo,
        ce_gppo,
        clip_cov,
        clip_cov_mask,
        covariance,
        entropy_pull,
        group_advantage,
        kl_cov,
        kl_cov_mask,
        leave_one_out,
        repo_neutral,
        repo_r,
        stand_in,
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from entropo_plugin import monitor, objectives
    from entropo_plugin.signs import signed

    globals()[name] = signed(getattr(objectives if hasattr(objectives, name) else monitor, name))
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
