"""The alarms with verl's names of the settings that they advise to change."""

from __future__ import annotations

from functools import partial

from entropo_plugin.hosts import health

PATIENCE = health.PATIENCE
SETTINGS = {
    "samples": "actor_rollout_ref.rollout.n",
    "length": "data.max_response_length, or actor_rollout_ref.rollout.max_model_len where that is what cuts",
}
Alarms = partial(health.Alarms, settings=SETTINGS)
