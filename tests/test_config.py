import math

import pytest

from entropo_plugin.config import ConfigError, defaults, describe, kind, parse
from entropo_plugin.recipe_files import listing


def test_defaults_are_the_papers():
    settings = parse(None)
    assert settings == kind()()
    assert (settings.repo.base, settings.repo.std, settings.repo.logp, settings.repo.center) == (
        "rloo",
        False,
        "current",
        False,
    )
    assert (settings.repo.zeta.law, settings.repo.zeta.initial, settings.repo.logp_floor) == ("doubling", 1e-3, -20.0)
    assert (settings.target.kind, settings.target.fraction) == ("auto", 1.0)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"repoo": {}}, "entropo.repoo: unknown key. Did you mean repo?"),
        ({"repo": {"zeta": {"hihg": 1}}}, "entropo.repo.zeta.hihg: unknown key. Did you mean high?"),
        (
            {"repo": {"base": "ppo"}},
            "entropo.repo.base='ppo': not allowed. Set entropo.repo.base to one of rloo | grpo",
        ),
        ({"repo": {"zeta": {"high": -1}}}, r"entropo.repo.zeta.high=-1.0: out of range. .* \[1e-12, 100\] or null"),
        ({"repo": {"zeta": {"initial": math.nan}}}, "entropo.repo.zeta.initial=nan: out of range"),
        ({"repo": {"zeta": {"initial": "big"}}}, "entropo.repo.zeta.initial='big': expected .* got str"),
        ({"repo": {"std": 1}}, "entropo.repo.std=1: expected bool, got int"),
        ({"repo": {"zeta": {"law": None}}}, "entropo.repo.zeta.law=None: expected"),
        (3, "entropo=3: expected a group with the keys methods"),
        ({"repo": {"zeta": {"high": 10**400}}}, "entropo.repo.zeta.high=a number of 1329 bits: expected"),
        ({"clip_cov": {"seed": -(10**5000)}}, "entropo.clip_cov.seed=a number of 16610 bits: out of range"),
        ({"repo": {"base": "x" * 10_000}}, "entropo.repo.base='xxxxx.*xxx...: not allowed"),
        ({"repo": 3}, "entropo.repo=3: expected a group with the keys base"),
        ({"target": {"kind": "value"}}, "entropo.target.kind=value needs entropo.target.value"),
        ({"repo": {"zeta": {"low": 1.0, "high": 0.1}}}, "entropo.repo.zeta.low=1.0 exceeds entropo.repo.zeta.high=0.1"),
        ({"adapo": {"clip_high": {"low": 2.0, "high": 1.0}}}, "entropo.adapo.clip_high.low=2.0 exceeds"),
        ({"adapo": {"clip_high": {"initial": 9}}}, r"entropo.adapo.clip_high.initial=9.0 lies outside \[0.05, 5.0\]"),
        ({"adapo": {"clip_high": {"law": "additive", "offset": 3.0}}}, "offset=3.0 exceeds .*offset_max=2.5"),
        ({"adapo": {"clip_ratio_c": 1.0}}, "entropo.adapo.clip_ratio_c=1.0: out of range"),
        ({"clip_cov": {"low": 6.0}}, "entropo.clip_cov.low=6.0 exceeds entropo.clip_cov.high=5.0"),
        ({"clip_cov": {"band": "quantile", "low_quantile": 1.0}}, "entropo.clip_cov.low_quantile=1.0 exceeds"),
        (
            {"clip_cov": {"scope": "micro_batch", "band": "quantile"}},
            "entropo.clip_cov.scope=micro_batch is verl's own",
        ),
        ({"kl_cov": {"penalty": "k1"}}, "entropo.kl_cov.penalty='k1': not allowed. .* abs | k2 | k3"),
        ({"repo": {"zeta": {"law": "annealed"}}}, "entropo.repo.zeta.law=annealed needs entropo.repo.zeta.anneal.kind"),
    ],
)
def test_refused_with_the_keys_path(node, message):
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        parse(node)


def test_defaults_of_the_other_methods_are_the_papers():
    settings = parse(None)
    high, clip, kl = settings.adapo.clip_high, settings.clip_cov, settings.kl_cov
    assert (settings.adapo.clip_low, high.initial, high.low, high.high, high.factor) == (0.2, 0.28, 0.05, 5.0, 1.1)
    assert (high.delta, high.offset_max) == (0.25, 2.5)
    assert (clip.ratio, clip.low, clip.high, clip.clip_low, clip.clip_high) == (2e-4, 1.0, 5.0, 1.0, 1.0)
    assert (kl.ratio, kl.beta, kl.penalty) == (2e-3, 1.0, "abs")
    assert (settings.neutral.gain, settings.neutral.authority, settings.neutral.memory) == (10.0, 1.0, 0.9)
    assert (clip.scope, kl.scope, clip.anneal.kind, settings.target.schedule) == ("global", "global", *["constant"] * 2)


def test_integers_are_numbers():
    assert parse({"repo": {"zeta": {"high": 1}}}).repo.zeta.high == 1.0


def test_every_setting_is_in_hydras_tree_so_that_no_plus_is_needed():
    from hydra.core.config_store import ConfigStore

    from entropo_plugin.hosts.verl.startup.doctor import compose

    tree = compose("ppo_trainer", ["+entropo=monitor"]).entropo
    assert tree == defaults() and "entropo_settings" in ConfigStore.instance().repo

    def leaves(node, path):
        for name, value in node.items():
            yield from (
                leaves(value, f"{path}.{name}") if isinstance(value, dict) and value else [(f"{path}.{name}", value)]
            )

    expected = {path: default for path, default, *_ in describe() if path != "entropo.host"}
    assert dict(leaves(defaults(), "entropo")) == expected


def test_every_setting_explains_itself():
    for path, _, allowed, help, source in describe():
        assert allowed and len(help) > 10 and source, path


def test_the_listing_names_every_choice():
    text = listing()
    for choice in (
        "+entropo=monitor",
        "+entropo=repo_r",
        "+entropo=repo_d",
        "+entropo_host=cpu",
        "cpu/tiny",
        "8b/qwen3_repo_r",
    ):
        assert choice in text
