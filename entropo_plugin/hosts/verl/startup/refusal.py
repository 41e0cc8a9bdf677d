"""How a configuration error reaches the user of ``hydra.main``: one message and exit status 1."""

from __future__ import annotations

from hydra.errors import CompactHydraException

from entropo_plugin.fields import ConfigError


class Refusal(ConfigError, CompactHydraException):
    """A ConfigError that Hydra prints without a traceback; with HYDRA_FULL_ERROR=1 it prints all of it."""
