"""Every setting of every method, under every law, band and kind: it changes what happens, or it is refused by name."""

import itertools
import re
from dataclasses import replace

import pytest
import torch

from entropo_plugin.config import ConfigError, describe, parse
from entropo_plugin.methods import Host, Tokens, registry
from entropo_plugin.methods.active import activate, remarks
from entropo_plugin.pipeline import drop, loss_owner, overrides, penalties, prepare_batch, select, shape
from entropo_plugin.run import Run

# Near the target and far from it, on both sides for long enough to meet a bound.
ENTROPIES = (1.0, 0.575, 0.65, 0.7, 1.005, 0.995, 1.01, 1.6, 1.7, 1.8, 1.9, 0.2, 0.05, 0.1, 1.4)
WAY = {"kind": "linear", "end": 0.02, "hold": 1, "steps": 4}
# STARE's gate stands open from the first step, and its weights meet their bounds.
STEPWISE, WIDE = {"law": "additive", "delta": 0.3}, {"kind": "value", "value": 1.1}
POWER = WAY | {"kind": "power"}
N_TOKENS = 13 / 128
# Values to try; those outside a setting's bounds are left out.
POOL = (
    0,
    1e-3,
    2e-3,
    0.009,
    0.01,
    0.05,
    0.09,
    0.1,
    0.2,
    0.25,
    0.3,
    0.5,
    0.7,
    0.89,
    0.9,
    1.1,
    1.12,
    1.5,
    2,
    3,
    7,
    -0.5,
    -1,
    -5,
)


# What has to be set beside a value for it to show within these steps.
COMPANY = {
    "anneal.kind": {"hold": 0},
    "anneal_ratio.kind": {"hold": 0},
    "entropy_range.schedule": {"steps": 6},
    "target.schedule": {"start": 0.9, "steps": 6},
    "clip_cov.band": {"low_quantile": 0.3, "high_quantile": 0.9},
}


# A value that its own bounds, or another setting's, refuse says nothing of who reads it.
NO_GOOD = "out of range|exceeds|lies outside|lies below|starts at|needs "


def case(method, node=None, settings=None, target=None, **facts):
    """A method, its settings, and the training around it."""
    own = {node: settings} if settings else {}
    return method, own | ({"target": target} if target else {}), facts


def clip_high(**settings):
    return case("adapo", "adapo", {"clip_high": settings})


def bonus(**settings):
    return case("entropy_bonus", "entropy_coeff", {"initial": 0.01} | settings)


def zeta(method="repo_r", **settings):
    return case(method, "repo", {"zeta": settings})


def steered(target):
    return case("entropic", "entropic", {"probability": 0.5}, target)


def covariance(method, mode="gspo", **settings):
    return case(method, method, {"ratio": N_TOKENS} | settings, loss_mode=mode)


CASES = {
    "repo_r": case("repo_r"),
    "repo_r, own advantages": case("repo_r", estimator="repo_r"),
    "repo_r, group advantages": case("repo_r", "repo", {"base": "grpo"}, estimator="repo_r"),
    "repo_r, old": case("repo_r", "repo", {"logp": "old"}),
    **{f"repo_r, {law}": zeta(law=law) for law in ("fixed", "pi", "matched")},
    "repo_r, annealed": zeta(law="annealed", anneal=WAY),
    "repo_r, annealed by a power": zeta(law="annealed", anneal=POWER),
    "repo_d": case("repo_d", estimator="repo_d"),
    "repo_d, fixed": zeta("repo_d", law="fixed", initial=0.5),
    "repo_neutral": case("repo_neutral", estimator="repo_neutral"),
    "adapo": case("adapo"),
    **{f"adapo, {law}": clip_high(law=law) for law in ("additive", "pi", "fixed")},
    "adapo, annealed": clip_high(law="annealed", anneal=WAY),
    "ce_gppo": case("ce_gppo"),
    "clip_cov": covariance("clip_cov", "entropo_clip_cov", low=-1.0),
    "clip_cov in a micro-batch": covariance("clip_cov", "entropo_clip_cov", low=-1.0, scope="micro_batch"),
    "clip_cov on another loss": covariance("clip_cov", low=-1.0),
    "clip_cov by quantile": covariance("clip_cov", band="quantile", low_quantile=0.3, high_quantile=0.9),
    "clip_cov annealed": covariance("clip_cov", low=-1.0, anneal=WAY),
    "kl_cov": covariance("kl_cov", "entropo_kl_cov"),
    "kl_cov in a micro-batch": covariance("kl_cov", "entropo_kl_cov", scope="micro_batch"),
    "kl_cov on another loss": covariance("kl_cov", anneal=WAY),
    "kl_cov, ratio annealed": covariance("kl_cov", anneal_ratio=POWER),
    "entropy_bonus": bonus(),
    **{f"entropy_bonus, {law}": bonus(law=law) for law in ("fixed", "additive", "multiplicative", "pi", "skywork")},
    "entropy_bonus, annealed": bonus(law="annealed", anneal=WAY),
    "repo_anchored": case("repo_anchored"),
    **{
        f"repo_anchored, {law}": case("repo_anchored", "anchored", {"law": law})
        for law in ("additive", "multiplicative")
    },
    "repo_anchored, annealed": case("repo_anchored", "anchored", {"law": "annealed", "anneal": WAY}),
    "entropic": case("entropic", "entropic", {"probability": 0.5}),
    "entropy_advantage": case("entropy_advantage"),
    "entropy_range": case("entropy_range", "entropy_range", {"steps": 6}),
    "entropy_range, constant": case("entropy_range", "entropy_range", {"schedule": "constant"}),
    "stare": case("stare"),
    "stare, two-sided": case("stare", "stare", {"two_sided": True}),
    "stare, additive": case("stare", "stare", STEPWISE, WIDE),
    "stare, additive and two-sided": case("stare", "stare", STEPWISE | {"two_sided": True}, WIDE),
    "top_entropy": case("top_entropy"),
    "negative_reinforce": case("negative_reinforce", estimator="negative_reinforce"),
    "quantile_baseline": case("quantile_baseline", estimator="quantile_baseline"),
    "a target": steered({"kind": "value", "value": 1.2}),
    "a share of the first entropy": steered({"kind": "initial", "fraction": 0.8}),
    "a target that moves": steered({"schedule": "linear", "fraction": 0.5, "steps": 6}),
    "a target that nears its end": steered({"schedule": "power", "fraction": 0.5, "steps": 6}),
    "a paper's target that moves": steered({"schedule": "linear", "steps": 6}),
}


def batch(step):
    """Four responses twice, so that covariances come in pairs; ratios, log-probs and advantages of every size."""
    draw = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
    old = -normal(4, 16).abs() * 2
    old[:, 0], old[:, 1] = -25.0, -0.01
    advantage = normal(4, 1).expand(4, 16) * (1 + 0.3 * step)
    fields = {"old_log_prob": old, "advantage": advantage, "entropy": normal(4, 16).abs()}
    fields |= {"ref_log_prob": old + normal(4, 16) * 0.3, "log_prob": old + normal(4, 16)}
    doubled = {name: torch.cat([value, value]) for name, value in fields.items()}
    parts = [torch.arange(4), torch.arange(4, 8)]
    return Tokens(mask=torch.ones(8, 16), keys=[f"r{row}" for row in range(8)], step=step, parts=parts, **doubled)


def behaviour(method, node, facts):
    """All that the host is handed in a few steps: advantages, losses, penalties and scalars."""
    settings = parse({"methods": [method]} | node)
    host = Host(**({"estimator": "grpo"} | facts))
    methods = activate(settings, host)
    list(remarks(methods))
    run, acted = Run(methods, settings), []
    for step, entropy in enumerate(ENTROPIES, 1):
        run.loop.observe(entropy * 128, 128)
        acted += one_step(run, batch(step), host)
        run.loop.updated = True
        run.end_step(step)
    return acted


def one_step(run, micro, host):
    prepared = prepare_batch(run, replace(micro, log_prob=micro.old_log_prob))
    c, late = run.coefficients(), replace(micro, advantage=prepared.advantage)
    late = replace(late, advantage=shape(run.methods, late, c, "worker"))
    selected = prepared.selected | select(run.methods, late, c, ("micro_batch",))[0]
    acted = [drop(run.methods, late.advantage, selected), overrides(run.methods, c)]
    owner, added = loss_owner(run.methods), penalties(run.methods, late, c, selected)
    acted += [] if added is None else [added]
    acted += [] if owner is None else [owner.loss(late, c[owner.name], selected.get(owner.name))]
    reward, group = torch.tensor([0.0, 1.0, 0.0, 0.3, 1.0, 1.0, 0.6, 0.0]), torch.arange(8) // 4
    return acted + [each.baseline(reward, group) for each in run.methods if each.estimator == host.estimator]


def same(one, other):
    pairs = itertools.zip_longest(one, other)
    return all(torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b for a, b in pairs)


def others(path, default, allowed):
    """Values of a setting that are not its default."""
    if isinstance(default, bool):
        return [not default]
    names = [name for name in allowed.split(" | ") if name != "null"]
    if len(names) > 1:
        return [name for name in names if name != default]
    whole = isinstance(default, int)
    return [int(value) if whole else float(value) for value in POOL if value != default and (not whole or value >= 1)]


def changed(node, path, value):
    """The settings with one more, at a dotted path."""
    first, _, rest = path.partition(".")
    return node | {first: changed(node.get(first, {}), rest, value) if rest else value}


def present(node, path):
    for name in path.split("."):
        if not isinstance(node, dict) or name not in node:
            return None
        node = node[name]
    return node


def outcome(method, node, facts, path, value, usual):
    """``changed``, ``ignored``, ``refused`` by the key's name, or ``""`` where the value is no good."""
    node, group = changed(node, path, value), path.rpartition(".")[0]
    for name, beside in next((more for end, more in COMPANY.items() if path.endswith(end)), {}).items():
        if present(node, f"{group}.{name}") is None:
            node = changed(node, f"{group}.{name}", beside)
    try:
        return "ignored" if same(behaviour(method, node, facts), usual) else "changed"
    except ConfigError as error:
        return "" if re.search(NO_GOOD, str(error)) or f"entropo.{path}" not in str(error) else "refused"


def leaves(method):
    groups = [f"entropo.{name}." for name in (*registry.known()[method].groups(), "target")]
    rows = [(path.removeprefix("entropo."), default, allowed) for path, default, allowed, *_ in describe()]
    return [row for row in rows if any(f"entropo.{row[0]}".startswith(prefix) for prefix in groups)]


# `initial` is what `auto` means where the method has no target of its own, and `additive` what null means.
SYNONYMS = {"target.kind", "entropy_coeff.law"}


@pytest.mark.parametrize("name", CASES)
def test_every_setting_acts_or_is_refused(name):
    method, node, facts = CASES[name]
    usual = behaviour(method, node, facts)
    ignored = []
    for path, default, allowed in leaves(method):
        now = present(node, path)
        values = [value for value in others(path, default, allowed) if value != now] + (
            [] if now is None else [default]
        )
        outcomes = []
        for value in values:
            outcomes.append(outcome(method, node, facts, path, value, usual))
            if outcomes[-1] == "changed":
                break
        acts, refused = "changed" in outcomes, "refused" in outcomes and "ignored" not in outcomes
        if not (acts or refused or path in SYNONYMS):
            ignored.append((path, dict(zip(values, outcomes, strict=True))))
    assert ignored == []


def test_every_method_with_settings_is_among_them():
    ours = {name for name, method in registry.known().items() if method.groups() and registry.is_ours(method)}
    assert ours - {method for method, *_ in CASES.values()} == set()


@pytest.mark.parametrize("name", ["tokens_megabytes", "folder"])
def test_the_token_files_settings_are_refused_without_it(name):
    value = {"tokens_megabytes": 10, "folder": "/tmp"}[name]
    with pytest.raises(ConfigError, match=f"entropo.monitor.{name}={value}: It is read while entropo.monitor.tokens"):
        activate(parse({"monitor": {name: value}}), Host())
    activate(parse({"monitor": {name: value, "tokens": 5}}), Host())
