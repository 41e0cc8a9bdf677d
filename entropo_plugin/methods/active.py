"""Which methods run, and whether they can run together: a method that was asked for acts, or the run does not start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from entropo_plugin.control import Coefficient, Target
from entropo_plugin.fields import ConfigError
from entropo_plugin.methods.base import FIELDS, Host, Method
from entropo_plugin.methods.reading import check_read
from entropo_plugin.methods.registry import find, known

SHIFT = "entropo/shift"
# Names of metrics that no coefficient may have.
RESERVED = ("shift", "target", "skipped")
METHODS = "entropo.methods"


def activate(settings: Any, host: Host) -> tuple[Method, ...]:
    """The methods of a run, in the order in which they shape.

    Asked for by ``entropo.methods`` and ``+entropo=NAME``, by the host's estimator or policy loss that is a door to
    one, or by a setting of its own. ``entropo.chosen.NAME=false`` takes a name out of ``entropo.methods``, and is
    refused beside anything else that asks for the method.

    Raises:
        ConfigError: a name is unknown, methods exclude each other, or a method could not act; says what to change.
    """
    classes = dict.fromkeys([*_listed(settings), *_doors(host), *_switched(settings)])
    methods = tuple(cls(settings, host) for cls in classes)
    _check_declined(methods, settings)
    _check_families(methods)
    if sum(method.owns_loss for method in methods) > 1:
        for method in methods:
            method.step_aside()
    _check_loss(methods, host)
    _check_fields(methods, host)
    check_read(settings, methods)
    _check_targets(settings, methods)
    return methods


def remarks(methods: Sequence[Method]) -> Iterator[str]:
    """What the methods refuse in their own words, and what they warn of.

    Raises:
        ConfigError: a method cannot run in this training.
    """
    for method in methods:
        yield from method.check()
        yield from _standing_still(method)
        yield from _replaced_clip(method)


def _standing_still(method: Method) -> Iterator[str]:
    """Coefficients that are meant to move and cannot, or that stay where their method does nothing."""
    for name, each in method.coefficients().items():
        why, where = each.stays(), f" See entropo.{method.node}." if method.node else ""
        if why and each.initial == each.nothing:
            yield f"{name} stays {each.initial:g} ({why}), at which {method.title} does nothing.{where}"
        elif why and each.adapts:
            yield f"{name} stays {each.initial:g} ({why}): {method.title} cannot steer by it.{where}"


def _replaced_clip(method: Method) -> Iterator[str]:
    """Settings of the host's clip that a policy loss with a clip of its own does not read."""
    if not method.owns_loss:
        return
    first = {name: each.initial for name, each in method.coefficients().items()}
    own = method.clip_bounds(first)
    for side in (each for each in method.host.clip_set if each in own):
        where = f"; its own are under entropo.{method.node}" if method.node else ""
        yield f"{method.host.clip_set[side]}: the policy loss of {method.title} does not read it{where}."


def _listed(settings: Any) -> Iterator[type[Method]]:
    chosen = [name for name, wanted in settings.chosen.items() if wanted]
    for name in settings.methods:
        if settings.methods.count(name) > 1:
            raise ConfigError(f"entropo.methods names {name} more than once. Name it once.")
    for name, wanted in settings.chosen.items():
        if not wanted:
            find(name, f"entropo.chosen.{name}")
    for name in (*chosen, *settings.methods):
        if settings.chosen.get(name) is not False:
            yield find(name)


def _doors(host: Host) -> Iterator[type[Method]]:
    for method in known().values():
        if host.estimator and method.estimator == host.estimator:
            yield method
        if host.loss_mode and method.loss_mode == host.loss_mode:
            yield method


def _switched(settings: Any) -> Iterator[type[Method]]:
    return (method for method in known().values() if method.switched_on(settings))


def asked_by(method: Method) -> str:
    """The setting that names a method, as the user most likely wrote it, for messages."""
    if method.chosen:
        return f"+entropo={method.name}"
    host = method.host
    if method.estimator and method.estimator == host.estimator and host.estimator_key != METHODS:
        return f"{host.estimator_key}={host.estimator}"
    if method.loss_mode and method.loss_mode == host.loss_mode:
        return f"{host.loss_key}={host.loss_mode}"
    return f"{METHODS}=[{method.name}]" if method.named or not method.switch else method.switch


def without(method: Method) -> str:
    """What to do to leave a method out, for messages."""
    asked = asked_by(method)
    return f"take {method.name} out of {METHODS}" if asked.startswith(METHODS) else f"delete {asked}"


def _check_declined(methods: Sequence[Method], settings: Any) -> None:
    for method in methods:
        if settings.chosen.get(method.name) is False:
            asked = asked_by(method)
            raise ConfigError(
                f"entropo.chosen.{method.name}=false, but {asked} asks for {method.title}. Set "
                f"{asked.partition('=')[0]} to another value, or delete entropo.chosen.{method.name}."
            )


def _check_families(methods: Sequence[Method]) -> None:
    for number, method in enumerate(methods):
        for other in methods[:number]:
            if method.family and method.family == other.family:
                words = f"{asked_by(other)} and {asked_by(method)}"
                raise ConfigError(
                    f"{words}: {other.title} and {method.title} are both {method.family}, and only one of them can "
                    "run. Delete one of these settings."
                )


def _check_loss(methods: Sequence[Method], host: Host) -> None:
    owners = [method for method in methods if method.owns_loss]
    if len(owners) > 1:
        names = " and ".join(method.name for method in owners)
        raise ConfigError(f"entropo.methods: {names} both have a policy loss of their own. Take one of them out.")
    doors = {method.loss_mode for method in methods} | {host.default_loss}
    for owner in owners:
        if host.loss_mode not in doors:
            raise ConfigError(
                f"{host.loss_key}={host.loss_mode}: {owner.title} has a policy loss of its own, which would replace "
                f"it. Delete {host.loss_key}, or {without(owner)}."
            )
    for method in methods:
        _check_composition(method, host, bool(owners))


def _check_composition(method: Method, host: Host, owned: bool) -> None:
    """A method on top of the host's own loss."""
    if host.loss_mode in method.same_as and not owned:
        raise ConfigError(
            f"{host.loss_key}={host.loss_mode}: {host.name}'s own {host.loss_mode} chooses tokens already, beside "
            f"which {method.title} cannot act. Delete {host.loss_key}, or {without(method)}."
        )
    if owned:
        return
    if host.mixes and (method.shapes or method.drops):
        raise ConfigError(
            f"{host.loss_key}={host.loss_mode} {host.mixes}, which undoes what {method.title} does to single tokens. "
            f"Set another {host.loss_key}, or {without(method)}."
        )
    if host.keeps and method.drops:
        raise ConfigError(
            f"{host.loss_key}={host.loss_mode} {host.keeps}, so that single tokens cannot be dropped from it as "
            f"{method.title} does. Set another {host.loss_key}, or {without(method)}."
        )


def _check_fields(methods: Sequence[Method], host: Host) -> None:
    for method in methods:
        needs = set(method.needs())
        if any(each.adapts for each in method.coefficients().values()):
            needs.add("entropy")
        for name in sorted(needs - host.fields):
            if name not in FIELDS:
                raise ConfigError(
                    f"entropo.methods: {method.name} needs {name!r}, which no host has. A method can need: "
                    f"{', '.join(FIELDS)}."
                )
            raise ConfigError(
                f"{asked_by(method)}: {method.title} needs {FIELDS[name]} ({name}), which this run does not "
                f"have.{host.remedy(name)} It has: {', '.join(sorted(host.fields)) or 'none of them'}."
            )


def target_of(settings: Any, methods: Sequence[Method]) -> Target:
    """The target that a run steers to: the user's, else the one that its methods' papers name."""
    own = next((method.own_target for method in _steered(methods)), None)
    target: Target = settings.target
    return target if own is None or not _open(target) else replace(target, kind="value", value=own)


def _open(target: Target) -> bool:
    """Whether the user leaves it to the methods where the target ends."""
    return target.kind == "auto" and target.fraction == Target().fraction


def _steered(methods: Sequence[Method]) -> list[Method]:
    return [method for method in methods if any(each.adapts for each in method.coefficients().values())]


def _check_targets(settings: Any, methods: Sequence[Method]) -> None:
    """A run has one target, so two methods whose papers steer to different ones need the user's."""
    _check_way(target_of(settings, methods))
    own = {method.title: method.own_target for method in _steered(methods)}
    if _open(settings.target) and len(set(own.values())) > 1:
        wanted = [f"{title} to {'the initial entropy' if to is None else f'{to:g} nats'}" for title, to in own.items()]
        raise ConfigError(
            f"entropo.target.kind=auto: {' and '.join(wanted)}: these methods steer to different entropies, and a run "
            "has one target. Set entropo.target.kind=initial, or entropo.target.kind=value entropo.target.value=NATS."
        )


def _check_way(target: Target) -> None:
    """A target that moves has to end elsewhere than it starts."""
    if target.schedule != "constant" and target.kind != "value" and target.fraction == 1 and target.start is None:
        raise ConfigError(
            f"entropo.target.schedule={target.schedule}: the target starts and ends at the initial entropy. Set "
            "entropo.target.fraction, start or value too, or delete entropo.target.schedule."
        )


def stems(methods: Sequence[Method]) -> dict[tuple[str, str], str]:
    """``(method, coefficient)`` -> the coefficient's name in metrics; two of one name get their method's in front."""
    pairs = [(method.name, name) for method in methods for name in method.coefficients()]
    names = [name for _, name in pairs]
    return {pair: pair[1] if names.count(pair[1]) == 1 and not _taken(pair[1]) else "/".join(pair) for pair in pairs}


def _taken(name: str) -> bool:
    """Whether a coefficient of that name would be taken for a metric of ours, or for another coefficient's."""
    return not name.isidentifier() or name in RESERVED or name.endswith(("_next", "_at_bound"))


def selection_name(methods: Sequence[Method], method: Method, metric: str) -> str:
    """A metric of a method's choice of tokens or of its shape; with the method's name where several choose or shape."""
    choose = metric.startswith("entropo/selection/") and sum(bool(each.selects) for each in methods) > 1
    shape = metric == SHIFT and sum(bool(each.shapes) for each in methods) > 1
    return metric.replace("entropo/", f"entropo/{method.name}/", 1) if choose or shape else metric


def coefficients(methods: Sequence[Method]) -> dict[str, Coefficient]:
    """Every coefficient of a run by its name in metrics."""
    names = stems(methods)
    return {names[method.name, name]: each for method in methods for name, each in method.coefficients().items()}


# The order in which what shapes, drops or penalises acts; the others come last.
ORDER = ("baseline", "driver", "worker", "drop", "penalty", "")


def acts(method: Method) -> str:
    """The first step of the pipeline, of :data:`ORDER`, in which a method changes something."""
    if method.shapes:
        return method.shapes
    if method.drops or method.penalises:
        return "drop" if method.drops else "penalty"
    return "baseline" if method.estimator else ""


def describe(methods: Sequence[Method], settings: Any, host: Host) -> str:
    """What is active, in words and in the order in which it acts: one line at start-up."""
    owner = next((method for method in methods if method.owns_loss), None)
    ordered = sorted(methods, key=lambda method: ORDER.index(acts(method)))
    doing = [method.describe() for method in ordered if method is not owner]
    replaced = "" if owner is None or host.loss_mode == owner.loss_mode else f" in place of {host.loss_mode}"
    loss = host.loss_mode if owner is None else f"{owner.describe()}{replaced}"
    moving = coefficients(ordered)
    parts = ["; ".join(doing) or ("" if owner else "measures only"), f"policy loss {loss}"]
    if any(each.adapts for each in moving.values()):
        parts.append(f"target {target_of(settings, methods).in_words()}")
    parts += [each.in_words(name) for name, each in moving.items()]
    return "entropo: " + "; ".join(part for part in parts if part)
