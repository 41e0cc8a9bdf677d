"""Pure objectives: tensors in, tensors out; no state, no host."""

from entropo_plugin.objectives.adapo import adapo, clip_sides, high_from_offset
from entropo_plugin.objectives.base import group_advantage, leave_one_out
from entropo_plugin.objectives.covariance import PENALTIES, clip_cov, kl_cov, kl_penalty, micro_band, micro_top
from entropo_plugin.objectives.ratio import count_nonfinite, log_ratio, response_only
from entropo_plugin.objectives.repo import (
    bound_beta,
    drop_small,
    neutral_beta,
    repo_d,
    repo_neutral,
    repo_r,
    stand_in,
    step_cost,
)
from entropo_plugin.objectives.selection import (
    covariance,
    positive_ceiling,
    quantile_band,
    select_band,
    select_top,
    selection_metrics,
    token_keys,
)

__all__ = [
    "PENALTIES",
    "adapo",
    "bound_beta",
    "clip_cov",
    "clip_sides",
    "count_nonfinite",
    "covariance",
    "drop_small",
    "group_advantage",
    "high_from_offset",
    "kl_cov",
    "kl_penalty",
    "leave_one_out",
    "log_ratio",
    "micro_band",
    "micro_top",
    "neutral_beta",
    "positive_ceiling",
    "quantile_band",
    "repo_d",
    "repo_neutral",
    "repo_r",
    "response_only",
    "select_band",
    "select_top",
    "selection_metrics",
    "stand_in",
    "step_cost",
    "token_keys",
]
