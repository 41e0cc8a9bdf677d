"""What entropy is doing: pure statistics of one step and of a run."""

from entropo_plugin.monitor.dynamics import ChangeTracker, dynamics_metrics, most_expensive, token_change, token_records
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
