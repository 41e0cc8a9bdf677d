"""What Clip-Cov and KL-Cov share: the choice of tokens by covariance over the whole batch (arXiv 2505.22617)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from entropo_plugin.control import Anneal, Coefficient, Options
from entropo_plugin.fields import ConfigError
from entropo_plugin.methods.base import Method, Tokens
from entropo_plugin.objectives import ResponseKeys, centre_of, covariance, positive_ceiling, selection_metrics

SCOPES = ("global", "mini_batch", "micro_batch")
SCOPE = "tokens that share means and quota: the rollout batch's, an optimizer step's, or as in verl a micro-batch's"
# verl's own choice has no seed
SEEDED = "scope=global|mini_batch"
NAMES = {"selected": "share", "selected_negative": "negative_share", "selected_weight": "weight"}


def annealed(label: str, value: float, anneal: Anneal, key: str) -> Coefficient:
    """A coefficient that follows no entropy: a constant, or its schedule."""
    law = "fixed" if anneal.kind == "constant" else "annealed"
    high = max(value, anneal.end, 1e-12)
    return Coefficient(label, law, value, 0.0, high, key, Options(signed=False, anneal=anneal), nothing=0.0)


class CovarianceMethod(Method):
    """A method on the tokens of highest covariance of log-prob and advantage.

    Behind its own loss it is the paper's; beside any other loss it acts on top of that.
    """

    family = "covariance methods"
    same_as = ("clip_cov", "kl_cov")

    composed = False

    @property
    def selects(self) -> str:
        return str(self.settings.scope)

    @property
    def at_door(self) -> bool:
        """Whether the paper's own loss was asked for, by the name of the policy loss."""
        return self.host.loss_mode == self.loss_mode

    @property
    def owns_loss(self) -> bool:
        return self.at_door and not self.composed

    def step_aside(self) -> None:
        self.composed = True

    def check(self) -> Iterator[str]:
        path = f"entropo.{self.node}.scope"
        if self.selects == "mini_batch" and self.host.shuffles:
            raise ConfigError(
                f"{path}=mini_batch: the workers cut their own mini-batches here, unknown to the driver."
                f"{self.host.remedy('shuffles')} Or set {path}=global."
            )
        if self.selects == "micro_batch" and not self.owns_loss:
            raise ConfigError(
                f"{path}=micro_batch: on top of {self.host.loss_key}={self.host.loss_mode} the driver chooses the "
                f"tokens. Set {path} to global or mini_batch, or {self.host.loss_key}={self.loss_mode}."
            )
        yield from ()

    def select(self, tokens: Tokens, c: Mapping[str, float]) -> tuple[Tensor, dict[str, float]]:
        """One covariance from pi_old's log-probs and the base advantages.

        The choice depends on nothing but the seed, the step, and each response's key and position.
        """
        if self.selects == "micro_batch":
            return self.select_micro(tokens, c), {}
        logp, advantage, mask = tokens.log_prob, tokens.advantage, tokens.mask
        order = ResponseKeys(tokens.keys, self.settings.seed, tokens.step)
        centre = centre_of(logp, advantage, mask)
        cov, ceiling = covariance(logp, advantage, mask, centre), positive_ceiling(logp, advantage, mask, centre)
        del centre
        if self.selects == "global" or tokens.parts is None:
            chosen = self.choose(cov, mask, order, c)
        else:
            chosen = torch.zeros_like(mask, dtype=torch.bool)
            for rows in tokens.parts:
                own = covariance(logp[rows], advantage[rows], mask[rows])
                chosen[rows] = self.choose(own, mask[rows], order.of(rows), c)
        return chosen, self._metrics(tokens, cov, chosen, ceiling)

    def _metrics(self, tokens: Tokens, cov: Tensor, chosen: Tensor, ceiling: float) -> dict[str, float]:
        summary = selection_metrics(cov, tokens.advantage, chosen)
        metrics = {f"entropo/selection/{NAMES[name]}": summary[name] for name in NAMES if name in summary}
        return metrics | ({"entropo/selection/ceiling": ceiling} if summary else {})

    def choose(self, cov: Tensor, mask: Tensor, order: ResponseKeys, c: Mapping[str, float]) -> Tensor:
        """``(batch, response)`` boolean from the covariance and the seeded order of the tokens."""
        raise NotImplementedError

    def select_micro(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        """verl's own choice in one micro-batch, for comparison."""
        raise NotImplementedError
