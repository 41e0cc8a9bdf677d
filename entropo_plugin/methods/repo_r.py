"""REPO-R: the advantage is rescaled by the sampled token's log-probability (arXiv 2603.11682, as read in SkyRL)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from entropo_plugin.control import MEASURED, Coefficient, Control, Measured
from entropo_plugin.methods.base import Host, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.methods.repo import RepoMethod
from entropo_plugin.objectives import PullMemory, matched_zeta, repo_matched, repo_r

# largest |zeta| of the law `matched` where the settings leave it open: up to |L| = 1 no advantage changes its sign
MATCHED_HIGH = 1.0


@register
class RepoR(RepoMethod):
    """``beta = zeta |A|`` with the raw log-prob, or the centred one, clamped so that no advantage changes its sign.

    With ``law=matched`` (ours) it is ``A - zeta |A| L`` with pi_old's centred L, and zeta comes from the batch itself.
    """

    name, title, estimator = "repo_r", "REPO-R", "repo_r"
    bounds = (1e-4, 0.05)

    def __init__(self, settings: Any, host: Host):
        super().__init__(settings, host)
        self.memory, self.last = PullMemory(), 0.0
        # smallest weight of a token under `matched`: mean |A| of the steps before
        self.least = 0.0

    @property
    def matched(self) -> bool:
        """Whether zeta is measured from the batch that it acts on."""
        return bool(self.settings.zeta.law == "matched")

    @property
    def shapes(self) -> str:
        return "driver" if self.matched or self.settings.logp == "old" else "worker"

    def needs(self) -> frozenset[str]:
        if not (self.settings.center or self.matched):
            return frozenset()
        return frozenset({"current_entropy" if self.shapes == "worker" else "entropy"})

    def check(self) -> Iterator[str]:
        self.check_zeta()
        yield from super().check()
        if self.settings.logp_floor == 0 and not (self.settings.center or self.matched):
            yield "entropo.repo.logp_floor=0: every log-prob counts as 0, and REPO-R leaves every advantage as it is."

    def unread(self) -> dict[str, str]:
        words = "entropo.repo.zeta.law=matched takes pi_old's centred log-prob, so that nothing reads it."
        return {"repo.logp": words, "repo.center": words} if self.matched else {}

    @property
    def zeta_bounds(self) -> tuple[float, float]:
        """The paper's bounds are for its own law; ``matched`` needs room to answer a whole batch."""
        low, high = super().zeta_bounds
        return low, MATCHED_HIGH if self.matched and self.settings.zeta.high is None else high

    def coefficients(self) -> dict[str, Coefficient]:
        if not self.matched:
            return {"zeta": self.zeta("REPO-R's zeta")}
        high, bound = self.zeta_bounds[1], "entropo.repo.zeta.high"
        return {"zeta": Coefficient("REPO-R's zeta", MEASURED, low=0.0, high=high, key=bound, follows=True)}

    def measure(self, tokens: Tokens, control: Control, c: Mapping[str, float]) -> dict[str, Measured]:
        if not self.matched:
            return {}
        target = (control.entropy, control.target, control.following)
        entropy, wanted, following = (1.0, 1.0, 1.0) if None in target else target
        assert entropy is not None and wanted is not None and following is not None
        self.least = self.memory.advantage_size
        high, stats = self.zeta_bounds[1], self.pull_of(tokens, self.least)
        step = matched_zeta(stats, self.memory, self.last, entropy, wanted, following, high=high)
        self.memory, self.last = step.memory, step.zeta
        return {"zeta": Measured(step.zeta, step.at_bound or step.no_authority)}

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        if self.matched:
            return self.with_centred(tokens, lambda base, centred: repo_matched(base, centred, c["zeta"], self.least))
        return repo_r(tokens.advantage, self.stand_in(tokens, self.settings.center), c["zeta"])

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.memory) | {"last": self.last} if self.matched else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.matched:
            self.memory = PullMemory(float(state["pull_size"]), float(state["advantage_size"]))
            self.last = float(state["last"])
