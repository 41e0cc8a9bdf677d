"""REPO-D: the whole batch is shaped by how much entropy it is predicted to cost (arXiv 2603.11682, our reading)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from entropo_plugin.control import Coefficient
from entropo_plugin.fields import ConfigError
from entropo_plugin.methods.base import Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.methods.repo import BASE, RepoMethod
from entropo_plugin.objectives import repo_d_beta, repo_neutral, step_cost


@register
class RepoD(RepoMethod):
    """``beta = zeta |mean(p A L)|``, one scalar a batch: a positive zeta raises entropy, a negative one lowers it.

    Experimental: the paper's sign and unit are not recoverable.
    """

    name, title, estimator = "repo_d", "REPO-D", "repo_d"
    reads = (*BASE, "repo.logp_floor", "repo.zeta")
    bounds = (1e-3, 10.0)

    @property
    def shapes(self) -> str:
        return "driver"

    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def check(self) -> Iterator[str]:
        if self.settings.zeta.law == "matched":
            raise ConfigError(
                "entropo.repo.zeta.law=matched measures REPO-R's zeta. Set another law, or +entropo=repo_r."
            )
        self.check_zeta()
        yield from super().check()

    def coefficients(self) -> dict[str, Coefficient]:
        return {"zeta": self.zeta("REPO-D's zeta")}

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        assert tokens.entropy is not None
        cost = step_cost(tokens.advantage, tokens.log_prob, tokens.entropy, tokens.mask)
        return repo_neutral(tokens.advantage, self.stand_in(tokens, exact=True), repo_d_beta(float(cost), c["zeta"]))
