"""Right answers pull less on tokens that are already likely: A (1 - strength p) where A > 0, and A elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from entropo_plugin.control import Coefficient, Options
from entropo_plugin.fields import key
from entropo_plugin.methods import Method, Tokens


@dataclass(frozen=True)
class Settings:
    """The group `entropo.mine`."""

    initial: float = key(0.1, "strength of the first step", low=0.0, high=1.0)
    high: float = key(0.9, "largest strength", low=0.0, high=1.0)
    delta: float = key(0.05, "one step's change of the strength", low=0.0, high=1.0)


class Mine(Method):
    """One coefficient in [0, high], one step up while entropy is below its target and one down above it."""

    name, title, node, settings_type = "mine", "Damped sharpening", "mine", Settings
    shapes = "driver"

    def coefficients(self) -> dict[str, Coefficient]:
        own = self.settings
        options = Options(delta=own.delta, signed=False)
        bounds = own.initial, 0.0, own.high
        return {"strength": Coefficient("damping of likely tokens", "additive", *bounds, "entropo.mine.high", options)}

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> torch.Tensor:
        damped = tokens.advantage * (1 - c["strength"] * tokens.log_prob.exp())
        return torch.where(tokens.advantage > 0, damped, tokens.advantage)
