"""Pure objectives: tensors in, tensors out; no state, no host."""

from entropo_plugin.objectives.base import group_advantage, leave_one_out
from entropo_plugin.objectives.repo import drop_small, repo_d, repo_r, stand_in, step_cost

__all__ = ["drop_small", "group_advantage", "leave_one_out", "repo_d", "repo_r", "stand_in", "step_cost"]
