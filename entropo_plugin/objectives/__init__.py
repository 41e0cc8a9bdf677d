"""Pure objectives: tensors in, tensors out; no state, no host."""

from entropo_plugin.objectives.adapo import adapo, clip_sides, high_from_offset
from entropo_plugin.objectives.base import group_advantage, leave_one_out
from entropo_plugin.objectives.ce_gppo import ce_gppo
from entropo_plugin.objectives.covariance import PENALTIES, clip_cov, kl_cov, kl_penalty, micro_band, micro_top
from entropo_plugin.objectives.group_statistics import group_quantile, group_std, quantile_rank
from entropo_plugin.objectives.pull import (
    AGGREGATION_MODES,
    EntropyPull,
    MatchedStep,
    NeutralStep,
    PullMemory,
    entropy_pull,
    matched_zeta,
    neutral_step,
    response_weights,
    token_weights,
)
from entropo_plugin.objectives.ratio import count_nonfinite, log_ratio, response_only
from entropo_plugin.objectives.repo import (
    drop_small,
    repo_anchored,
    repo_d_beta,
    repo_matched,
    repo_neutral,
    repo_r,
    stand_in,
    step_cost,
)
from entropo_plugin.objectives.selection import (
    ResponseKeys,
    centre_of,
    clip_cov_mask,
    covariance,
    kl_cov_mask,
    positive_ceiling,
    quantile_band,
    select_band,
    select_top,
    selection_metrics,
    token_keys,
)
from entropo_plugin.objectives.token_statistics import TokenStatistics, token_statistics
from entropo_plugin.objectives.unlikely_positive import unlikely_positive

__all__ = [
    "AGGREGATION_MODES",
    "PENALTIES",
    "EntropyPull",
    "MatchedStep",
    "NeutralStep",
    "PullMemory",
    "ResponseKeys",
    "TokenStatistics",
    "adapo",
    "ce_gppo",
    "centre_of",
    "clip_cov",
    "clip_cov_mask",
    "clip_sides",
    "count_nonfinite",
    "covariance",
    "drop_small",
    "entropy_pull",
    "group_advantage",
    "group_quantile",
    "group_std",
    "high_from_offset",
    "kl_cov",
    "kl_cov_mask",
    "kl_penalty",
    "leave_one_out",
    "log_ratio",
    "matched_zeta",
    "micro_band",
    "micro_top",
    "neutral_step",
    "positive_ceiling",
    "quantile_band",
    "quantile_rank",
    "repo_anchored",
    "repo_d_beta",
    "repo_matched",
    "repo_neutral",
    "repo_r",
    "response_only",
    "response_weights",
    "select_band",
    "select_top",
    "selection_metrics",
    "stand_in",
    "step_cost",
    "token_keys",
    "token_statistics",
    "token_weights",
    "unlikely_positive",
]
