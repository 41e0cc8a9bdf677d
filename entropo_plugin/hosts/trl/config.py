"""TRL's own GRPOConfig with one more field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from entropo_plugin.hosts.trl.plan import Plan


@dataclass
class EntropoGRPOConfig(GRPOConfig):
    """GRPOConfig with ``entropo``: the keys, bounds and messages that the node ``entropo:`` has under verl.

    ``{"methods": ["repo_r"], "repo": {"zeta": {"high": 0.3}}}``; without it a run is only measured.

    Raises:
        ConfigError: a setting is wrong, or does not fit the rest of the configuration.
    """

    # TRL's command line passes a dict as JSON
    _VALID_DICT_FIELDS = [*GRPOConfig._VALID_DICT_FIELDS, "entropo"]

    entropo: dict[str, Any] | str | None = field(
        default_factory=dict,
        metadata={"help": "Entropy control: which methods run and their settings, see entropo_plugin's docs/trl.md."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        Plan.of(self)
