"""What a TRL configuration asks of us, and whether that can work: read once, before training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from entropo_plugin.config import ConfigError, parse, shown
from entropo_plugin.hosts.trl.facts import host_of
from entropo_plugin.methods.active import METHODS, activate, asked_by, describe, remarks, without
from entropo_plugin.methods.base import Host, Method
from entropo_plugin.pipeline import loss_owner

# TRL's names of the scalars that methods move
OVERRIDES = {"entropy_coeff": "entropy_coef"}


@dataclass(frozen=True)
class Plan:
    """The methods of a run, and its settings.

    Attributes:
        settings: the parsed ``entropo`` of the configuration.
        methods: what runs, in order; none where we only measure.
        host: what the methods know of the training.
        baseline: the method whose base advantages take the place of TRL's.
        warnings: what will run, with a warning.
    """

    settings: Any
    methods: tuple[Method, ...] = ()
    host: Host = field(default_factory=Host)
    baseline: Method | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, args: Any) -> Plan:
        """Read and check a whole ``GRPOConfig``; a stock one has no ``entropo``, and is only measured.

        Raises:
            ConfigError: a setting of ours is wrong, or does not fit the rest of the configuration.
        """
        node = _node(args)
        settings, host = parse(node), host_of(args)
        methods = activate(settings, host)
        own = _baseline(methods, node)
        if own is not None:
            host = replace(host, estimator=own.estimator or "", estimator_key=METHODS)
            methods = activate(settings, host)
        warnings = tuple(remarks(methods))
        _check_settings(settings)
        _check_updates(settings, host, warnings)
        for check in (_check_adaptive_entropy, _check_quantile, _check_loss, _check_loss_type):
            check(args, methods)
        baseline = next((method for method in methods if own is not None and method.name == own.name), None)
        return cls(settings, methods, host, baseline, warnings)

    def in_words(self) -> str:
        """What is active: one line."""
        return describe(self.methods, self.settings, self.host)


def _node(args: Any) -> Any:
    node = getattr(args, "entropo", None)
    if isinstance(node, str):
        try:
            return json.loads(node)
        except ValueError as error:
            raise ConfigError(f"entropo={shown(node)} is not JSON ({error}). Give a dict of settings.") from error
    return node


def _baseline(methods: Sequence[Method], node: Any) -> Method | None:
    """The method whose own base advantages are wanted: one of their settings is named, or it does nothing else."""
    wanted = [method for method in methods if method.estimator and _asked(method, node)]
    if len(wanted) > 1:
        names = " and ".join(method.name for method in wanted)
        raise ConfigError(f"entropo.methods: {names} both bring advantages of their own. Take one of them out.")
    return wanted[0] if wanted else None


def _asked(method: Method, node: Any) -> bool:
    acts = method.shapes or method.selects or method.owns_loss or method.penalises or method.coefficients()
    return not acts or any(_named(node, path.split(".")) for path in method.baseline_keys)


def _named(node: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True


def _check_settings(settings: Any) -> None:
    if settings.monitor.tokens:
        raise ConfigError(
            f"entropo.monitor.tokens={settings.monitor.tokens}: the file of costly tokens is written under verl only. "
            "Delete it; log_completions=True is TRL's own."
        )
    if settings.host != "auto":
        raise ConfigError(f"entropo.host={settings.host} is verl's CPU host. Delete it: TRL has use_cpu=True.")


def _check_updates(settings: Any, host: Host, warnings: Sequence[str]) -> None:
    """Refuse a method that could act only if the policy moved between the updates of one rollout batch."""
    if host.updates > 1:
        return
    more = remarks(activate(settings, replace(host, updates=2)))
    cured = [words for words in warnings if words not in set(more)]
    if cured:
        raise ConfigError(cured[0])


def _check_adaptive_entropy(args: Any, methods: Sequence[Method]) -> None:
    if not args.use_adaptive_entropy:
        return
    for method in methods:
        coefficients = method.coefficients().values()
        if any(each.adapts for each in coefficients) or type(method).overrides is not Method.overrides:
            raise ConfigError(
                f"use_adaptive_entropy=True: TRL's own controller and that of {method.title} "
                f"({asked_by(method)}) would steer one entropy. Set use_adaptive_entropy=False, or {without(method)}."
            )


def _check_quantile(args: Any, methods: Sequence[Method]) -> None:
    if args.top_entropy_quantile < 1:
        for method in methods:
            if method.selects or method.owns_loss:
                raise ConfigError(
                    f"top_entropy_quantile={args.top_entropy_quantile}: TRL masks tokens already, beside which "
                    f"{method.title} cannot act on all of them. Set top_entropy_quantile=1.0, or {without(method)}."
                )


def _check_loss(args: Any, methods: Sequence[Method]) -> None:
    """Settings of the loss that a method's own takes the place of: none of them would be read."""
    owner = loss_owner(methods)
    for name in ("delta", "off_policy_mask_threshold"):
        value = getattr(args, name)
        if owner is not None and value is not None:
            raise ConfigError(
                f"{name}={value}: {owner.title} has a policy loss of its own, which does not read it. Delete {name}, "
                f"or {without(owner)}."
            )


LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")


def _check_loss_type(args: Any, methods: Sequence[Method]) -> None:
    owner = loss_owner(methods)
    doors = [method.loss_mode for method in methods if method is owner]
    if args.loss_type not in (*LOSS_TYPES, *doors):
        raise ConfigError(
            f"loss_type={shown(args.loss_type)}: unknown. Allowed: {', '.join(LOSS_TYPES)}, and the name of a "
            "method's own loss."
        )
