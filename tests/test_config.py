import math

import pytest
import yaml

from entropo_plugin.config import ConfigError, Settings, describe, parse
from entropo_plugin.recipe_files import folder, listing


def test_defaults_are_the_papers():
    settings = parse(None)
    assert settings == Settings()
    assert (settings.repo.base, settings.repo.std, settings.repo.logp, settings.repo.center) == (
        "rloo",
        False,
        "current",
        False,
    )
    assert (settings.repo.zeta.law, settings.repo.zeta.initial, settings.repo.logp_floor) == ("doubling", 1e-3, -20.0)
    assert (settings.target.kind, settings.target.fraction) == ("initial", 1.0)


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
        ({"repo": 3}, "entropo.repo=3: expected a group with the keys base"),
        ({"target": {"kind": "value"}}, "entropo.target.kind=value needs entropo.target.value"),
        ({"target": {"value": 1.0}}, "entropo.target.value=1.0 is ignored while entropo.target.kind=initial"),
        ({"repo": {"std": True}}, "entropo.repo.std=true has no meaning with entropo.repo.base=rloo"),
        ({"repo": {"zeta": {"low": 1.0, "high": 0.1}}}, "entropo.repo.zeta.low=1.0 exceeds entropo.repo.zeta.high=0.1"),
    ],
)
def test_refused_with_the_keys_path(node, message):
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        parse(node)


def test_integers_are_numbers():
    assert parse({"repo": {"zeta": {"high": 1}}}).repo.zeta.high == 1.0


def test_every_setting_is_in_the_recipes_so_that_no_plus_is_needed():
    tree = yaml.safe_load((folder() / "entropo_settings" / "defaults.yaml").read_text())

    def leaves(node, path):
        for name, value in node.items():
            yield from leaves(value, f"{path}.{name}") if isinstance(value, dict) else [(f"{path}.{name}", value)]

    expected = {path: default for path, default, *_ in describe() if path != "entropo.host"}
    assert dict(leaves(tree, "entropo")) == expected


def test_every_setting_explains_itself():
    for path, _, allowed, help, source in describe():
        assert allowed and len(help) > 10 and source, path


def test_the_listing_names_every_choice():
    text = listing()
    for choice in ("+entropo=monitor", "+entropo=repo_r", "+entropo=repo_d", "+entropo_host=cpu", "+cpu=tiny"):
        assert choice in text
