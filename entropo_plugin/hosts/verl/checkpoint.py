"""``global_step_N/entropo_state.json``: our state beside verl's own checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entropo_plugin.hosts.state_file import NAME, read_state, restore, save_state, write_state
from entropo_plugin.hosts.verl.resume import resume_warnings, resumed_folder

if TYPE_CHECKING:
    from entropo_plugin.run import Run

# where verl resumes from belongs to the same question, for whoever imports this module
__all__ = [
    "NAME",
    "StateCallback",
    "read_state",
    "restore",
    "resume_warnings",
    "resumed_folder",
    "save_state",
    "write_state",
]


class StateCallback:
    """Our state through verl's own checkpoint events, where it has them; the user's callback keeps all of its own."""

    def __init__(self, users: Any, run: Run):
        self.users, self.run = users, run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.users, name)

    def on_before_save(self, **event: Any) -> None:
        """Before verl writes its marker: a checkpoint that can be resumed from always has our state."""
        save_state(event["checkpoint_dir"], self.run.state_dict(event["global_step"]))
        self.users.on_before_save(**event)

    def on_load(self, **event: Any) -> None:
        """After verl has restored its own state."""
        restore(self.run, event["checkpoint_dir"])
        self.users.on_load(**event)
