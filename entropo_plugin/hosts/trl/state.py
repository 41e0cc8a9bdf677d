"""``checkpoint-N/entropo_state.json``: our state beside TRL's own."""

from __future__ import annotations

from pathlib import Path

from entropo_plugin.config import ConfigError, shown
from entropo_plugin.hosts.state_file import NAME, REMEDY, save_state, saved_state, take_state
from entropo_plugin.run import Run

# The number of rollout batches so far, which TRL's own state does not hold.
ROLLOUTS = "rollouts"


def save(run: Run, folder: str | Path, step: int, rollouts: int) -> bool:
    """Write the state; a failure only warns."""
    return save_state(folder, run.state_dict(step) | {ROLLOUTS: rollouts}, "TRL")


def load(run: Run, folder: str | Path) -> int:
    """Continue from a checkpoint folder; returns the number of rollout batches before it.

    Raises:
        ConfigError: the state is damaged or another run's, unless ``entropo.resume=reset``.
    """
    state = saved_state(run, folder)
    if state is None:
        return 0
    rollouts = state.pop(ROLLOUTS, None)
    if isinstance(rollouts, bool) or not isinstance(rollouts, int) or rollouts < 0:
        if run.settings.resume == "strict":
            raise ConfigError(f"{Path(folder) / NAME}: {ROLLOUTS}={shown(rollouts)} is no count. {REMEDY}")
        rollouts = 0
    take_state(run, folder, state)
    return rollouts
