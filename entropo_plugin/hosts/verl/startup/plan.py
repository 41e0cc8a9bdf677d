"""What a verl configuration asks of us, and whether that can work: read once, on the driver."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entropo_plugin.config import TRAINER_MODES, ConfigError, parse
from entropo_plugin.control.settings import check_ceiling
from entropo_plugin.fields import shown
from entropo_plugin.hosts.verl.compat import exact_entropy, own_names
from entropo_plugin.hosts.verl.startup import verl_keys
from entropo_plugin.hosts.verl.startup.combinations import check_combination, unread
from entropo_plugin.hosts.verl.startup.facts import ACTOR, BYPASS, STRATEGY, host_of, vocabulary
from entropo_plugin.hosts.verl.startup.override_order import overridden, wrong_mode
from entropo_plugin.methods.active import activate, describe, remarks, target_of
from entropo_plugin.methods.base import Host, Method
from entropo_plugin.methods.registry import estimators, losses


def get(config: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path of an OmegaConf config, or ``default``.

    Raises:
        ConfigError: the path holds an interpolation that leads nowhere.
    """
    try:
        return OmegaConf.select(config, path, default=default)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path} cannot be resolved: {str(error).splitlines()[0]}. Set {path}.") from error


def mode(config: Any) -> str:
    """The trainer mode that the configuration names."""
    chosen = get(config, "trainer.v1.trainer_mode", "sync")
    return chosen if isinstance(chosen, str) else shown(chosen)


def concerns(config: Any) -> bool:
    """Whether this run uses any part of us."""
    return _door(config) is not None or mode(config) in TRAINER_MODES or get(config, "entropo") is not None


def _door(config: Any) -> str | None:
    """The first setting of verl's that is a door to a method of ours, as the user would write it."""
    ours = mode(config) in TRAINER_MODES or get(config, "entropo") is not None
    for path, names in (("algorithm.adv_estimator", estimators()), (f"{ACTOR}.policy_loss.loss_mode", losses())):
        name = get(config, path)
        if isinstance(name, str) and name in names and (ours or name not in own_names()):
            return f"{path}={name}"
    return None


@dataclass(frozen=True)
class Plan:
    """The methods of a run, and its settings.

    Attributes:
        settings: the parsed node ``entropo:``.
        methods: what runs, in order; none where we only measure.
        host: what the methods know of the training.
        trains: whether the trainer is ours; if not, the CPU host is all that was asked for.
    """

    settings: Any
    methods: tuple[Method, ...] = ()
    host: Host = field(default_factory=Host)
    trains: bool = True

    @classmethod
    def from_config(cls, config: Any) -> Plan:
        """Read and check a whole verl configuration.

        Raises:
            ConfigError: a setting of ours is wrong, or does not fit the rest of the configuration.
        """
        verl_keys.check(config, get)
        settings = parse(_plain(get(config, "entropo")))
        _check_trainer(config, settings)
        check_combination(config)
        _check_packages(config)
        host = host_of(config, get)
        plan = cls(settings, activate(settings, host), host, mode(config) in TRAINER_MODES)
        list(remarks(plan.methods))
        if size := vocabulary(config, get):
            check_ceiling(target_of(settings, plan.methods), size)
        return plan

    def in_words(self) -> str:
        """What is active: one line."""
        if not self.trains:
            return "entropo: the CPU host, and nothing else of ours; nothing is measured"
        return describe(self.methods, self.settings, self.host)

    def warnings(self, config: Any) -> list[str]:
        """What will run, with a warning: inert methods, overridden choices and inexact measurements."""
        unheeded = unread(config, self.host.loss_mode) if self.methods else ()
        return [*remarks(self.methods), *overridden(config, self.settings), *unheeded, *_inexact(config)]


def _inexact(config: Any) -> Iterator[str]:
    bypass = get(config, BYPASS, False)
    if bypass:
        yield (
            f"{BYPASS}=true: verl computes no entropy, so none is measured. entropo/entropy/sampled_estimate, the "
            "mean of -log p of the sampled tokens under the rollout's own probabilities, is the estimate."
        )
    coarse = None if bypass or mode(config) not in TRAINER_MODES or exact_entropy() else _coarse_entropy(config)
    if coarse:
        yield coarse


def _coarse_entropy(config: Any) -> str | None:
    """Which key keeps verl from computing entropy in fp32; its chunks, the only fp32, need packed sequences."""
    if not get(config, f"{ACTOR}.entropy_from_logits_with_chunking", False):
        return (
            f"{ACTOR}.entropy_from_logits_with_chunking=false: with bf16 logits verl's entropy is off by 0.05 to "
            "0.13 nats rms per token. Set it to true for fp32 entropy, off by 0.01 to 0.03."
        )
    dtype = get(config, f"{ACTOR}.fsdp_config.mixed_precision.param_dtype") or "bf16"
    if get(config, f"{ACTOR}.use_remove_padding", True) or dtype == "fp32" or "fsdp" not in get(config, STRATEGY, ""):
        return None
    return (
        "actor_rollout_ref.model.use_remove_padding=false: verl then computes entropy in the dtype of the logits, "
        f"whatever {ACTOR}.entropy_from_logits_with_chunking says. Set it to true for fp32 entropy."
    )


def _plain(node: Any) -> Any:
    """The node ``entropo:`` as plain values, its interpolations resolved."""
    if not OmegaConf.is_config(node):
        return node
    try:
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"entropo: cannot be resolved: {str(error).splitlines()[0]}.") from error


def _check_trainer(config: Any, settings: Any) -> None:
    asked = _door(config) or ("the node entropo" if _measures(config) else None)
    if asked and not get(config, "trainer.use_v1", True):
        raise ConfigError(
            "trainer.use_v1=false: entropo_plugin works with verl's V1 trainers only. Set trainer.use_v1=true."
        )
    if asked and mode(config) not in TRAINER_MODES:
        raise ConfigError(wrong_mode(mode(config), asked, settings, get(config, "entropo")))
    if asked and get(config, "distillation.enabled", False):
        raise ConfigError(
            "distillation.enabled=true: distillation replaces the policy loss that entropo_plugin modifies. "
            "Set distillation.enabled=false, or take entropo out of this run."
        )


def _measures(config: Any) -> bool:
    """Whether the node holds more than the choice of the host."""
    node = get(config, "entropo")
    settings = OmegaConf.is_dict(node) and any(name != "host" for name in node)
    return mode(config) in TRAINER_MODES or settings


def _check_packages(config: Any) -> None:
    if importlib.util.find_spec("transfer_queue") is None:
        raise ConfigError("verl's V1 trainers need the package TransferQueue. Run: pip install TransferQueue")
    rollout = get(config, "actor_rollout_ref.rollout.name")
    size = get(config, "actor_rollout_ref.rollout.tensor_model_parallel_size", 1)
    if rollout == "hf" and size != 1:
        raise ConfigError(
            f"actor_rollout_ref.rollout.tensor_model_parallel_size={size}, but rollout.name=hf holds the whole model "
            "in each of its servers. Set it to 1, or actor_rollout_ref.rollout.name=vllm."
        )
    if rollout == "vllm" and get(config, "entropo.host", "auto") == "cpu" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "actor_rollout_ref.rollout.name=vllm, but vLLM is not installed. Run: pip install 'entropo-plugin[cpu]', "
            "or set actor_rollout_ref.rollout.name=hf for the transformers rollout."
        )
