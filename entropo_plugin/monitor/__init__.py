"""What entropy is doing: pure statistics of one step and of a run."""

from entropo_plugin.monitor.dynamics import ChangeTracker, dynamics_metrics, most_expensive, token_change, token_records
from entropo_plugin.monitor.law import LawFit, RewardLaw, fit_law
from entropo_plugin.monitor.precision import PrecisionReport, mismatch_metrics, precision_report
from entropo_plugin.monitor.samples import diversity_metrics, pass_at_k, pass_metrics
from entropo_plugin.monitor.statistics import step_metrics
from entropo_plugin.monitor.tokens import StepTokens

__all__ = [
    "ChangeTracker",
    "LawFit",
    "PrecisionReport",
    "RewardLaw",
    "StepTokens",
    "diversity_metrics",
    "dynamics_metrics",
    "fit_law",
    "mismatch_metrics",
    "most_expensive",
    "pass_at_k",
    "pass_metrics",
    "precision_report",
    "step_metrics",
    "token_change",
    "token_records",
]
