"""Where a verl run's ``run.json`` lies: beside verl's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from entropo_plugin.hosts.run_file import write_description
from entropo_plugin.hosts.verl.metrics.token_log import place
from entropo_plugin.hosts.verl.startup.plan import Plan
from entropo_plugin.side_file import RUN, TOKENS


def write_run_file(config: Any, plan: Plan) -> Path | None:
    """Write it beside the log; a failure only warns."""
    tokens = place(config, plan.settings.monitor.folder)
    path = tokens.with_name(f"{tokens.name.removesuffix(TOKENS)}{RUN}")
    return write_description(path, plan.methods, plan.in_words(), OmegaConf.to_container(config))
