"""Model-based REPO (ours): the beta that leaves entropy as it is to first order, plus a pull to the target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from entropo_plugin.control import MEASURED, Coefficient, Control, Measured
from entropo_plugin.fields import key
from entropo_plugin.methods.base import Host, Tokens
from entropo_plugin.methods.registry import register
from entropo_plugin.methods.repo import BASE, RepoMethod
from entropo_plugin.objectives import PullMemory, neutral_step, repo_neutral


@dataclass(frozen=True)
class Neutral:
    """The model-based law: the beta that leaves entropy as it is, plus a pull towards the target; no key has a unit."""

    REPLACED = {
        "kappa": "entropo.neutral.gain, which has no unit (10)",
        "cap": "entropo.neutral.authority, a bound against the advantages (1)",
        "share": "entropo.neutral.authority (1)",
    }

    gain: float = key(
        10.0, "k: how hard the law pulls to the target, in units of the batch's own pull", low=0.0, high=1e3
    )
    authority: float = key(
        1.0, "s: mean |beta L| is at most s times mean |advantage| or its exponential mean", low=0.0, high=100.0
    )
    authority_down: float | None = key(
        None, "s for a beta that lowers entropy; null: as `authority`", low=0.0, high=100.0, optional=True
    )
    memory: float = key(0.9, "decay of the exponential means, per step", low=0.0, high=0.999)


@register
class RepoNeutral(RepoMethod):
    """``A - beta L`` with ``beta = (C + k M (H*_next - H) / H*) / R``, bounded against the advantages."""

    name, title, estimator = "repo_neutral", "model-based REPO", "repo_neutral"
    also = {"neutral": Neutral}
    reads = (*BASE, "repo.logp_floor", "neutral")

    def __init__(self, settings: Any, host: Host):
        super().__init__(settings, host)
        self.neutral: Neutral = settings.neutral
        self.memory = PullMemory()

    @property
    def shapes(self) -> str:
        return "driver"

    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.neutral.authority == 0 and not self.neutral.authority_down:
            yield "entropo.neutral.authority=0: beta stays 0, and model-based REPO leaves every advantage as it is."

    def coefficients(self) -> dict[str, Coefficient]:
        bound = "entropo.neutral.authority"
        return {"beta_neutral": Coefficient("model-based REPO's beta", MEASURED, key=bound, follows=True)}

    def measure(self, tokens: Tokens, control: Control, c: Mapping[str, float]) -> dict[str, Measured]:
        """The batch's beta; without a target that a model can have, what leaves entropy as it is."""
        own, known = self.neutral, control.entropy is not None and control.target is not None
        entropy, target, following = (control.entropy, control.target, control.following) if known else (1.0, 1.0, 1.0)
        assert entropy is not None and target is not None and following is not None
        step = neutral_step(
            self.pull_of(tokens),
            self.memory,
            entropy,
            target,
            following,
            gain=own.gain,
            authority=own.authority,
            authority_down=own.authority if own.authority_down is None else own.authority_down,
            decay=own.memory,
        )
        self.memory = step.memory
        return {"beta_neutral": Measured(step.beta, step.at_bound)}

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        beta = torch.tensor(c["beta_neutral"], dtype=torch.float64)
        return self.with_centred(tokens, lambda advantage, centred: repo_neutral(advantage, centred, beta))

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory = PullMemory(**{name: float(value) for name, value in state.items()})
