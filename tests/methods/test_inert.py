"""A method that its settings leave nothing to do says so at start-up; one that can act says nothing."""

import pytest

from entropo_plugin.config import parse
from entropo_plugin.methods import Host, registry
from entropo_plugin.methods.active import activate, remarks

LOSSES = {"clip_cov": "entropo_clip_cov", "kl_cov": "entropo_kl_cov"}


def said(method, node, **facts):
    own = registry.known()[method]
    facts = {"estimator": own.estimator or "grpo", "entropy_coeff": 0.01} | facts
    settings = parse({"methods": [method]} | node)
    return list(remarks(activate(settings, Host(**facts))))


def law(path, **settings):
    node = settings
    for name in reversed(path.split(".")):
        node = {name: node}
    return node


INERT = {
    "REPO-R at 0": ("repo_r", law("repo.zeta", law="fixed", initial=0), "zeta stays 0 (nothing moves it)"),
    "REPO-D at 0": ("repo_d", law("repo.zeta", law="fixed", initial=0), "zeta stays 0 (nothing moves it)"),
    "REPO-R from 0 to 0": (
        "repo_r",
        law("repo.zeta", law="annealed", initial=0, anneal={"kind": "linear"}),
        "zeta stays 0 (its schedule ends where it starts)",
    ),
    "REPO-R, no gain": (
        "repo_r",
        law("repo.zeta", law="pi", pi={"proportional": 0, "integral": 0}),
        "zeta stays 0.001 (its step is 0): REPO-R cannot steer by it. See entropo.repo.",
    ),
    "REPO-R, floor": ("repo_r", law("repo", logp_floor=0), "entropo.repo.logp_floor=0: every log-prob counts as 0"),
    "no authority": ("repo_neutral", law("neutral", authority=0), "entropo.neutral.authority=0: beta stays 0"),
    "ADAPO, factor": ("adapo", law("adapo.clip_high", factor=1), "clip_high stays 0.28 (its step is 0)"),
    "ADAPO, bounds": ("adapo", law("adapo.clip_high", low=0.28, high=0.28), "stays 0.28 (its bounds are equal)"),
    "ADAPO, delta": ("adapo", law("adapo.clip_high", law="additive", delta=0), "clip_high stays 0 (its step is 0)"),
    "ADAPO as vanilla": (
        "adapo",
        law("adapo.clip_high", law="fixed", initial=0.2),
        "entropo.adapo.clip_high.law=fixed at verl's own clip: ADAPO is its loss as it is.",
    ),
    "CE-GPPO": ("ce_gppo", law("ce_gppo", keep_low=0, keep_high=0), "no gradient is kept beyond the clip, as in"),
    "Clip-Cov": ("clip_cov", law("clip_cov", ratio=0), "ratio stays 0 (nothing moves it), at which Clip-Cov does"),
    "KL-Cov, ratio": ("kl_cov", law("kl_cov", ratio=0), "ratio stays 0 (nothing moves it), at which KL-Cov does"),
    "KL-Cov, beta": ("kl_cov", law("kl_cov", beta=0), "beta stays 0 (nothing moves it), at which KL-Cov does"),
    "the bonus, delta": ("entropy_bonus", law("entropy_coeff", delta=0), "entropy_coeff stays 0.01 (its step is 0)"),
    "the bonus, bounds": (
        "entropy_bonus",
        law("entropy_coeff", initial=0, high=0),
        "entropy_coeff stays 0 (its bounds are equal), at which entropy bonus does nothing. See entropo.entropy_coeff.",
    ),
    "the bonus, factor": (
        "entropy_bonus",
        law("entropy_coeff", law="multiplicative", factor=1),
        "entropy_coeff stays 0.01 (its step is 0): entropy bonus cannot steer by it.",
    ),
    "the bonus, fixed": ("entropy_bonus", law("entropy_coeff", law="fixed", initial=0), "entropy_coeff stays 0"),
    "anchored": ("repo_anchored", law("anchored", b=0), "anchor stays 0 (nothing moves it), at which anchored REPO"),
    "anchored, a factor of 0": (
        "repo_anchored",
        law("anchored", b=0, law="multiplicative"),
        "anchor stays 0 (a factor cannot leave 0), at which anchored REPO does nothing. See entropo.anchored.",
    ),
    "EntroPIC, gains": ("entropic", law("entropic", proportional=0, integral=0), "EntroPIC's coefficient stays 0."),
    "EntroPIC, tokens": ("entropic", law("entropic", probability=1), "EntroPIC chooses none."),
    "entropy advantage": ("entropy_advantage", law("entropy_advantage", alpha=0), "every advantage stays as it is."),
    "Entrocraft": (
        "entropy_range",
        law("entropy_range", low=0, low_end=0, high=20, high_end=20),
        "no entropy leaves the range from 0 to 20 nats",
    ),
    "STARE, weight": ("stare", law("stare", weight=1), "STARE leaves every advantage as it is."),
    "STARE, share": ("stare", law("stare", share=0), "STARE leaves every advantage as it is."),
    "STARE, bound": (
        "stare",
        law("stare", law="additive", weight=1, weight_max=1),
        "STARE leaves every advantage as it is.",
    ),
    "80/20, all": ("top_entropy", law("top_entropy", share=1), "every token keeps its gradient"),
    "80/20, none": ("top_entropy", law("top_entropy", share=0), "only the token of highest entropy keeps its"),
}


@pytest.mark.parametrize(("method", "node", "words"), INERT.values(), ids=INERT)
def test_it_is_said(method, node, words):
    sentences = said(method, node)
    assert any(words in sentence for sentence in sentences), sentences
    if method in LOSSES:
        assert any(words in sentence for sentence in said(method, node, loss_mode=LOSSES[method]))


@pytest.mark.parametrize("method", [name for name, each in registry.known().items() if registry.is_ours(each)])
def test_with_its_defaults_nothing_is_said(method):
    assert said(method, {}) == []


def test_a_constant_edge_of_a_range_that_moves_is_a_choice():
    assert said("entropy_range", law("entropy_range", low_end=0.5, high_end=0.7, low=0.5)) == []


CLIP = {"low": "clip_ratio_low=0.1", "high": "clip_ratio_high=0.3", "dual": "clip_ratio_c=10"}


@pytest.mark.parametrize(
    ("method", "mode", "unread"),
    [
        ("adapo", "vanilla", ["low", "high", "dual"]),
        ("ce_gppo", "vanilla", ["low", "high", "dual"]),
        ("unlikely_positive", "vanilla", ["high"]),
        ("clip_cov", "entropo_clip_cov", ["low", "high", "dual"]),
        ("clip_cov", "gspo", []),
        ("kl_cov", "entropo_kl_cov", ["low", "high", "dual"]),
        ("repo_r", "vanilla", []),
    ],
)
def test_a_clip_of_the_hosts_that_the_loss_does_not_read_is_said(method, mode, unread):
    where = f"; its own are under entropo.{method}" if method in ("adapo", "ce_gppo", "clip_cov", "kl_cov") else ""
    title = registry.known()[method].title
    assert said(method, {}, loss_mode=mode, clip_set=CLIP) == [
        f"{CLIP[side]}: the policy loss of {title} does not read it{where}." for side in unread
    ]
