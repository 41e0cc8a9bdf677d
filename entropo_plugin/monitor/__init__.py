"""What entropy is doing: pure statistics of one step and of a run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entropo_plugin.monitor.dynamics import (
        ChangeTracker,
        dynamics_metrics,
        most_expensive,
        token_change,
        token_records,
    )
    from entropo_plugin.monitor.law import LawFit, RewardLaw, fit_law
    from entropo_plugin.monitor.precision import PrecisionReport, mismatch_metrics, precision_report
    from entropo_plugin.monitor.samples import (
        Sampled,
        diversity_metrics,
        pass_at_k,
        pass_metrics,
        right_entropy_metrics,
    )
    from entropo_plugin.monitor.sessions import Sessions, last_outputs
    from entropo_plugin.monitor.statistics import step_metrics
    from entropo_plugin.monitor.tokens import StepTokens

# A name and its module, imported when it is asked for: the report wants the law, without torch.
HOMES = {
    "dynamics": (
        "ChangeTracker",
        "dynamics_metrics",
        "most_expensive",
        "token_change",
        "token_records",
    ),
    "law": (
        "LawFit",
        "RewardLaw",
        "fit_law",
    ),
    "precision": (
        "PrecisionReport",
        "mismatch_metrics",
        "precision_report",
    ),
    "samples": (
        "Sampled",
        "diversity_metrics",
        "pass_at_k",
        "pass_metrics",
        "right_entropy_metrics",
    ),
    "sessions": (
        "Sessions",
        "last_outputs",
    ),
    "statistics": ("step_metrics",),
    "tokens": ("StepTokens",),
}

__all__ = [
    "ChangeTracker",
    "LawFit",
    "PrecisionReport",
    "RewardLaw",
    "Sampled",
    "Sessions",
    "StepTokens",
    "diversity_metrics",
    "dynamics_metrics",
    "fit_law",
    "last_outputs",
    "mismatch_metrics",
    "most_expensive",
    "pass_at_k",
    "pass_metrics",
    "precision_report",
    "right_entropy_metrics",
    "step_metrics",
    "token_change",
    "token_records",
]


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
