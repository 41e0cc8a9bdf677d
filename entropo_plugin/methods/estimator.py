"""What the methods share that give the advantages themselves."""

from __future__ import annotations

from collections.abc import Iterator

from entropo_plugin.fields import ConfigError
from entropo_plugin.methods.active import without
from entropo_plugin.methods.base import Method


class EstimatorMethod(Method):
    """A method that gives the advantages itself, behind an advantage estimator of its name."""

    family = "advantage estimators"

    def check(self) -> Iterator[str]:
        host = self.host
        if host.estimator != self.estimator:
            raise ConfigError(
                f"{host.estimator_key}={host.estimator} gives the advantages here, which {self.title} would replace. "
                f"Set {host.estimator_key}={self.estimator}, or {without(self)}; beside another method with an "
                f"estimator name it last, as in +entropo=[repo_r,{self.name}]."
            )
        yield from ()
