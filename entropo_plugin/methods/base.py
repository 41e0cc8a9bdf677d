"""What a method is: one object that declares its settings, its coefficients and what it does to a batch.

For several methods at once the order is fixed: baseline, select (on base advantages), measure, the driver's shapes in
the order of ``entropo.methods``, the worker's shapes, drop, loss (one at most), penalties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from entropo_plugin.control import Coefficient, Control, Measured

# What a method may need beside log-probs, advantages and the mask, and what it is.
FIELDS = {
    "entropy": "pi_old's entropy at every token",
    "current_entropy": "the current policy's entropy at every token, in the update",
    "ref_log_prob": "the reference policy's log-probs",
    "reward": "each response's reward",
}


@dataclass(frozen=True)
class Tokens:
    """One batch, ``(batch, response)``.

    On the driver the whole rollout batch, where ``log_prob`` is pi_old's; in a worker one micro-batch, where it is the
    current policy's. A field that nobody needs or the host does not have is None.

    Attributes:
        log_prob: log-probs of the sampled tokens, nats.
        mask: non-zero on response tokens.
        old_log_prob: pi_old's log-probs.
        advantage: advantages.
        entropy: entropies in nats at the same states, of the policy of ``log_prob``.
        ref_log_prob: the reference policy's log-probs.
        weight: rollout importance weights.
        reward: ``(batch,)`` sum of each response's rewards.
        group: ``(batch,)`` integer id of each response's prompt.
        keys: one identifier a response, all different: seeded choices depend on them and not on the order of rows.
        step: the global step.
        parts: rows of each optimizer step, where the driver knows them.
    """

    log_prob: Tensor
    mask: Tensor
    old_log_prob: Tensor
    advantage: Tensor
    entropy: Tensor | None = None
    ref_log_prob: Tensor | None = None
    weight: Tensor | None = None
    reward: Tensor | None = None
    group: Tensor | None = None
    keys: Sequence[str] = ()
    step: int = 0
    parts: Sequence[Tensor] | None = None


@dataclass(frozen=True)
class Host:
    """What a method may know of the training that it is part of.

    Attributes:
        name: of the host.
        estimator: the advantage estimator that the user's configuration names.
        loss_mode: the policy loss that it names.
        default_loss: the host's default, which is no choice.
        loss_key, estimator_key: where they are named, for messages.
        updates: optimizer steps per rollout batch.
        group_size: responses to one prompt.
        entropy_coeff: the host's constant entropy bonus.
        loss_agg_mode: how its loss weighs tokens, in verl's names.
        agg_key: where it is named, for messages.
        clip: lower and upper clip of the ratio and the dual clip of the host's default loss.
        clip_set: the settings of that clip that are not the host's defaults, by side: low, high, dual.
        shuffles: the workers cut their own mini-batches, unknown to the driver.
        mixes: why the host's loss gives a token more than its own advantage; empty where it does not.
        keeps: why a token without advantage still counts in the host's loss; empty where it does not.
        fields: what the host has of :data:`FIELDS`.
        remedies: for a field or a fact (``updates``, ``shuffles``, ``group_size``), the setting to change.
    """

    name: str = "verl"
    estimator: str = ""
    loss_mode: str = "vanilla"
    default_loss: str = "vanilla"
    loss_key: str = "actor_rollout_ref.actor.policy_loss.loss_mode"
    estimator_key: str = "algorithm.adv_estimator"
    updates: int = 2
    group_size: int = 8
    entropy_coeff: float = 0.0
    loss_agg_mode: str = "token-mean"
    agg_key: str = "actor_rollout_ref.actor.loss_agg_mode"
    clip: tuple[float, float, float] = (0.2, 0.2, 3.0)
    clip_set: Mapping[str, str] = field(default_factory=dict)
    shuffles: bool = False
    mixes: str = ""
    keeps: str = ""
    fields: frozenset[str] = frozenset(FIELDS)
    remedies: Mapping[str, str] = field(default_factory=dict)

    def remedy(self, name: str) -> str:
        """What to set where a field or a fact stands in the way, as a sentence with a leading space, or nothing."""
        return f" {self.remedies[name]}" if name in self.remedies else ""


class Method:
    """Base class: every hook that a method leaves out does nothing.

    A subclass is registered with :func:`entropo_plugin.methods.registry.register`, or found through the entry point
    group ``entropo.methods``.

    Args:
        settings: all parsed settings, one attribute a group.
        host: what the training is.
    """

    # In ``entropo.methods``, and what people call it.
    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    # Its group of settings ``entropo.NODE`` and their dataclass, and further groups by name.
    node: ClassVar[str] = ""
    settings_type: ClassVar[type | None] = None
    also: ClassVar[Mapping[str, type]] = {}
    # The settings that it can read, where that is not all of its groups.
    reads: ClassVar[tuple[str, ...]] = ()
    # Only one method of a family can run.
    family: ClassVar[str] = ""
    # The host's registered names that are doors to it.
    estimator: ClassVar[str | None] = None
    loss_mode: ClassVar[str | None] = None
    # Settings of its own base advantage; naming one asks for it where a host has no estimator to name.
    baseline_keys: ClassVar[tuple[str, ...]] = ()
    # Losses of a host that do the same thing, beside which it is refused.
    same_as: ClassVar[tuple[str, ...]] = ()
    # What happens to the tokens that it chooses, in the name of their metric.
    acts_on: ClassVar[str] = "chosen"
    # The entropy, in nats, that its paper steers to where the user sets no target; None: the first measured one.
    own_target: ClassVar[float | None] = None

    def __init__(self, settings: Any, host: Host):
        self.host = host
        # the setting that asked for it, where that is no setting of the host
        self.chosen = bool(settings.chosen.get(self.name))
        self.named = self.name in settings.methods
        self.switch = self.switched_on(settings)
        self.settings: Any = getattr(settings, self.node) if self.node else None

    @property
    def shapes(self) -> str:
        """Where it modifies advantages: ``driver``, ``worker``, or nowhere, ``""``."""
        return ""

    @property
    def selects(self) -> str:
        """The tokens that share its choice's means and quota: ``global``, ``mini_batch``, ``micro_batch``, or none."""
        return ""

    @property
    def drops(self) -> bool:
        """Whether the chosen tokens lose their advantage."""
        return False

    @property
    def owns_loss(self) -> bool:
        """Whether it has a policy loss of its own."""
        return False

    @property
    def penalises(self) -> bool:
        """Whether it adds a penalty to the policy loss."""
        return False

    @classmethod
    def groups(cls) -> dict[str, type]:
        """Its groups of settings."""
        return ({cls.node: cls.settings_type} if cls.node and cls.settings_type else {}) | dict(cls.also)

    @classmethod
    def switched_on(cls, settings: Any) -> str:
        """The setting that alone makes it run, as ``key=value``, without its name in ``entropo.methods``; or none."""
        return ""

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        """Refuse settings that contradict each other, whether it runs or not.

        Raises:
            ConfigError: names the keys and what to set.
        """

    def unread(self) -> dict[str, str]:
        """Settings that it leaves unread in this training, and why; what neighbours decide, ``fields.key`` says."""
        return {}

    def step_aside(self) -> None:
        """Act on top of another method's policy loss, if it can, where both have one."""

    def needs(self) -> frozenset[str]:
        """Names of :data:`FIELDS` that it cannot do without, with these settings."""
        return frozenset()

    def check(self) -> Iterator[str]:
        """Raise ConfigError when it cannot run in this training; yield warnings."""
        yield from ()

    def coefficients(self) -> dict[str, Coefficient]:
        """Its coefficients by the names that the hooks get them under."""
        return {}

    def baseline(self, rewards: Tensor, group: Tensor) -> Tensor:
        """``(batch,)`` advantages from ``(batch,)`` rewards and prompt ids; for methods with an estimator."""
        raise NotImplementedError(f"{self.name} has no advantage estimator.")

    def select(self, tokens: Tokens, c: Mapping[str, float]) -> tuple[Tensor, dict[str, float]]:
        """One boolean a token, ``(batch, response)``, and metrics of the choice."""
        return torch.zeros_like(tokens.mask, dtype=torch.bool), {}

    def measure(self, tokens: Tokens, control: Control, c: Mapping[str, float]) -> dict[str, Measured]:
        """Coefficients that come from this very batch, on the driver, before anything is shaped."""
        return {}

    def shape(self, tokens: Tokens, c: Mapping[str, float]) -> Tensor:
        """``(batch, response)`` advantages in place of ``tokens.advantage``, without a gradient."""
        return tokens.advantage

    def loss(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        """``(batch, response)`` policy loss before normalisation, for a method with a loss of its own."""
        raise NotImplementedError(f"{self.name} has no policy loss.")

    def clip_bounds(self, c: Mapping[str, float]) -> dict[str, Any]:
        """Arguments of ``objectives.clip_sides`` that its loss has of its own: low, high, dual, ratio_bounds."""
        return {}

    def penalty(self, tokens: Tokens, c: Mapping[str, float], selected: Tensor | None) -> Tensor:
        """``(batch, response)`` loss that is added to whatever policy loss runs, normalised as that is."""
        return torch.zeros_like(tokens.log_prob)

    def overrides(self, c: Mapping[str, float]) -> dict[str, float]:
        """Scalars of the host's actor that move: ``entropy_coeff``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Memory beyond the coefficients, as plain JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off."""

    def idle(self) -> dict[str, str]:
        """Metric -> likely cause and key to change, where the metric stays 0."""
        return {}

    def describe(self) -> str:
        """What it does in this training, for the start-up line."""
        return self.title
