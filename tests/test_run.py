"""One training on the driver: methods, control loop and what survives a restart, without a host."""

import json
import logging
import math
from dataclasses import replace

import pytest
import torch

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.methods.active import activate
from entropo_plugin.methods.base import Host, Tokens
from entropo_plugin.pipeline import prepare_batch
from entropo_plugin.run import Run

HOST = Host(estimator="grpo")
INITIAL = {"target": {"kind": "initial"}}


def make(*methods, node=None, host=HOST):
    settings = parse({"methods": list(methods)} | (node or {}))
    return Run(activate(settings, host), settings)


def step(run, entropy, number=1, updated=True):
    if entropy is not None:
        run.loop.observe(entropy * 10, 10)
    run.loop.updated = updated
    return run.end_step(number)


def test_one_step_measures_and_moves_once():
    run = make("repo_r")
    run.loop.observe(12.0, 10)
    run.loop.observe(18.0, 10)
    run.loop.updated = True
    metrics = run.end_step(1)
    assert metrics["entropo/entropy/token_mean"] == 1.5
    assert (metrics["entropo/zeta"], metrics["entropo/target"], metrics["entropo/zeta_next"]) == (1e-3, 1.5, 1e-3)
    assert step(run, 1.4)["entropo/zeta_next"] == 2e-3
    assert run.coefficients() == {"repo_r": {"zeta": 2e-3}}


def test_frozen_during_critic_warm_up():
    run = make("repo_r")
    step(run, 1.0, updated=False)
    assert run.loop.target.initial is None and run.loop.value("zeta") == 1e-3


@pytest.mark.parametrize("entropy", [None, math.nan, math.inf])
def test_a_missing_measurement_moves_nothing_and_says_so(entropy, caplog):
    run = make("repo_r")
    step(run, 1.0)
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        assert step(run, entropy, 7)["entropo/skipped"] == 1.0
    assert "step 7 has no usable entropy" in caplog.text and "zeta stays 0.001" in caplog.text
    assert run.loop.value("zeta") == 1e-3


def test_monitoring_alone_sends_nothing_and_controls_nothing():
    run = make()
    assert run.coefficients() == {}
    metrics = step(run, 1.0)
    assert metrics["entropo/entropy/token_mean"] == 1.0 and "entropo/target" not in metrics


def test_a_method_that_steers_nothing_logs_no_target():
    metrics = step(make("clip_cov"), 1.0)
    assert metrics["entropo/ratio"] == 2e-4 and "entropo/target" not in metrics


def test_one_target_for_all_coefficients():
    run = make("repo_r", "adapo", node={"target": {"schedule": "linear", "fraction": 0.5, "steps": 2}})
    targets = [step(run, 1.0, number)["entropo/target"] for number in (1, 2, 3, 4)]
    assert targets == [1.0, 0.75, 0.5, 0.5] and run.loop.target.steps == 4


def test_state_survives_json_bit_for_bit():
    run = make("repo_r", "adapo")
    for entropy in (1.1, 1.0, 0.9, 1.2, 1.0 / 3.0):
        step(run, entropy)
    other = make("repo_r", "adapo")
    other.load_state_dict(json.loads(json.dumps(run.state_dict(5))), "here")
    assert other.state_dict(5) == run.state_dict(5)
    for number, entropy in ((6, 0.7), (7, 1.3), (8, 1.0 / 7.0)):
        assert step(other, entropy, number) == step(run, entropy, number)


def saved(**change):
    zeta = {"law": "doubling", "value": 1e-3, "steps": 0}
    return {"coefficients": {"zeta": zeta | change}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"repo_d": {}}}, r"entropo.methods was \['repo_d'\], is \['repo_r'\]"),
        ({"methods": {"repo_r": {}, "adapo": {}}}, r"entropo.methods was \['adapo', 'repo_r'\], is \['repo_r'\]"),
        ({"methods": 3}, r"entropo.methods was 3, is \['repo_r'\]"),
        ({"format": 99}, "its format is 99, this version reads 1 and 2"),
        ({"format": 1}, "its format is 1"),
        (saved(law="fixed"), "the law of zeta was 'fixed', is 'doubling'"),
        ({"coefficients": []}, "the law of zeta was None, is 'doubling'"),
        ({"coefficients": {"zeta": {"law": "doubling"}}}, "coefficients.zeta.value is missing"),
        (saved(value="1"), "coefficients.zeta.value='1' is not a finite number"),
        (saved(value=1e5), "no setting allows more than 1000"),
        (saved(steps=math.nan), "coefficients.zeta.steps=nan is not a count"),
        ({"target": {"initial": -5.0, "steps": 0}}, "no entropy of a model"),
        ({"changes": 3}, "changes=3 is not an object"),
    ],
)
def test_another_runs_state_is_refused_or_reset_by_key(change, message):
    state = make("repo_r").state_dict(3) | change
    with pytest.raises(ConfigError, match=message + r".*entropo.resume=reset"):
        make("repo_r").load_state_dict(state, "global_step_3/entropo_state.json")
    run = make("repo_r", node={"resume": "reset"})
    run.load_state_dict(state, "here")
    assert run.loop.value("zeta") == 1e-3 and run.loop.target.initial is None


def test_shapes_in_another_order_are_refused_and_what_commutes_is_not():
    saved = make("entropy_advantage", "repo_neutral", "adapo").state_dict(3)
    with pytest.raises(
        ConfigError, match="the order in which advantages are shaped was .'entropy_advantage', 'repo_ne"
    ):
        make("repo_neutral", "entropy_advantage", "adapo").load_state_dict(saved, "here")
    make("adapo", "entropy_advantage", "repo_neutral").load_state_dict(saved, "here")
    saved = make("repo_r", "stare", node=INITIAL).state_dict(3)
    make("stare", "repo_r", node=INITIAL).load_state_dict(saved, "here")


def test_the_order_of_the_shapes_matters():
    """Which is why another one is refused."""
    moved = []
    for names in (("stare", "entropy_advantage"), ("entropy_advantage", "stare")):
        run = make(*names, node=INITIAL | {"stare": {"share": 1.0}})
        run.loop.observe(10.0, 10)
        run.loop.target.initial = 2.0
        tokens = replace(batch(), keys=("a_0_0", "b_0_0"))
        moved.append(prepare_batch(run, tokens).advantage)
    assert not torch.equal(*moved)


def first_format(**change):
    """What the first round wrote for REPO-R and ADAPO after three steps."""
    target = {"initial": 1.25, "steps": 3}
    zeta = {"law": "doubling", "coefficient": 4e-3, "steps": 3, "skipped": 1, "target": target}
    high = {"law": "multiplicative", "coefficient": 0.308, "steps": 3, "skipped": 1, "target": target}
    empty = make("repo_r").state_dict(0)
    state = {"format": 1, "version": "0.1.0", "step": 3, "estimator": "repo_r", "loss": "adapo"}
    state |= {"controllers": {"zeta": zeta, "clip_high": high}, "changes": empty["changes"], "law": empty["law"]}
    return state | change


def test_a_state_of_the_first_format_continues():
    run = make("repo_r", "adapo")
    run.load_state_dict(first_format(), "here", 3)
    assert run.coefficients() == {"repo_r": {"zeta": 4e-3}, "adapo": {"clip_high": 0.308}}
    assert (run.loop.target.initial, run.loop.target.steps, run.loop.skipped) == (1.25, 3, 1)


def test_a_state_of_the_first_format_of_another_method_is_refused():
    with pytest.raises(ConfigError, match=r"entropo.methods was \['adapo', 'repo_d'\], is \['adapo', 'repo_r'\]"):
        make("repo_r", "adapo").load_state_dict(first_format(estimator="repo_d"), "here")


def test_adapo_moves_clip_high():
    run = make("adapo")
    step(run, 1.0)
    metrics = step(run, 0.9, 2)
    assert metrics["entropo/clip_high"] == 0.28 and metrics["entropo/clip_high_next"] == pytest.approx(0.28 * 1.1)


def test_adapos_offset_acts_as_the_bound_that_it_gives():
    node = {"adapo": {"ratio_max": 4.0, "clip_high": {"law": "additive", "offset": 0.5}}}
    run = make("adapo", node=node)
    high = run.coefficients()["adapo"]["clip_high"]
    assert high == pytest.approx(1 / 0.8 + 0.5 - 1)
    assert run.methods[0].clip_bounds({"clip_high": high})["ratio_bounds"] == (0.0, 4.0)
    assert step(run, 1.0)["entropo/clip_high"] == high


def test_kl_covs_beta_is_annealed_once_a_step_and_resumed():
    node = {"kl_cov": {"anneal": {"kind": "linear", "hold": 1, "steps": 2}}}
    run = make("repo_r", "kl_cov", node=node)
    used = [step(run, 1.0, number)["entropo/beta"] for number in range(1, 6)]
    assert used == [1.0, 1.0, 0.5, 0.0, 0.0]
    other = make("repo_r", "kl_cov", node=node)
    other.load_state_dict(json.loads(json.dumps(run.state_dict(5))), "here")
    assert other.state_dict(5) == run.state_dict(5)


def test_without_entropy_a_schedule_goes_on_and_no_target_is_said(caplog):
    run = make("kl_cov", node={"kl_cov": {"anneal": {"kind": "linear", "hold": 0, "steps": 2}}})
    metrics = [step(run, None, number) for number in (1, 2, 3)]
    assert [each["entropo/beta"] for each in metrics] == [1.0, 0.5, 0.0]
    assert not caplog.records and not any({"entropo/target", "entropo/skipped"} & set(each) for each in metrics)


def test_a_schedule_goes_on_beside_a_law_that_has_no_entropy():
    run = make("repo_r", "kl_cov", node={"kl_cov": {"anneal": {"kind": "linear", "hold": 0, "steps": 2}}})
    assert [step(run, None, number)["entropo/beta"] for number in (1, 2, 3)] == [1.0, 0.5, 0.0]
    assert run.loop.value("zeta") == 1e-3 and run.loop.skipped == 3


def batch():
    logp, mask = torch.tensor([[-0.1, -2.0], [-0.2, -4.0]]), torch.ones(2, 2)
    advantage, entropy = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([[0.5, 1.2], [0.3, 1.0]])
    return Tokens(logp, mask, logp, advantage, entropy)


def test_what_a_method_measures_acts_in_the_step_that_it_measures():
    run = make("repo_neutral", node={"target": {"kind": "value", "value": 1.5}})
    run.loop.observe(10.0, 10)
    run.measure(batch())
    acting = run.coefficients()["repo_neutral"]
    assert acting["beta_neutral"] > 0
    run.loop.updated = True
    metrics = run.end_step(1)
    assert metrics["entropo/target"] == 1.5
    assert metrics["entropo/beta_neutral"] == acting["beta_neutral"]
    assert run.coefficients() == {"repo_neutral": {}}


def test_the_law_is_fitted_on_validation_scores_and_resumed():
    run = make()
    for number, entropy in enumerate((math.log(3.0), math.log(2.0)), 1):
        step(run, entropy, number)
        metrics = run.observe_score(1.0 - 0.25 * math.exp(entropy))
    assert metrics["entropo/law/a"] == pytest.approx(0.25) and metrics["entropo/law/ceiling"] == pytest.approx(0.75)
    assert run.observe_score(None) == {}
    other = make()
    other.load_state_dict(json.loads(json.dumps(run.state_dict(2))), "here")
    assert other.law.metrics() == run.law.metrics()


def test_a_warning_is_said_once(caplog):
    run = make()
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        for text in ("coarse 1", None, "coarse 2"):
            run.warn_once("precision", text)
    assert "coarse 1" in caplog.text and "coarse 2" not in caplog.text


def test_the_entropy_bonus_follows_the_entropy_from_the_hosts_own_coefficient():
    node = {"entropy_coeff": {"law": "additive", "delta": 0.01, "high": 0.03}}
    run = make(node=node, host=replace(HOST, entropy_coeff=0.015))
    used = []
    for number, entropy in enumerate((1.0, 0.9, 0.8, 1.1, 1.2, 1.3, 1.4), 1):
        used.append(run.coefficients()["entropy_bonus"]["entropy_coeff"])
        step(run, entropy, number)
    assert used == pytest.approx([0.015, 0.015, 0.025, 0.03, 0.02, 0.01, 0.0])


def test_the_entropy_bonus_moves_where_it_is_asked_for_by_name():
    run = make("entropy_bonus")
    assert run.loop.controllers["entropy_coeff"].law == "additive"


def test_a_covariance_method_on_another_loss_has_its_coefficients():
    run = make("adapo", "kl_cov", node={"kl_cov": {"beta": 2.0, "penalty": "k3"}})
    assert run.coefficients() == {"adapo": {"clip_high": 0.28}, "kl_cov": {"ratio": 2e-3, "beta": 2.0}}
    assert [method.penalises for method in run.methods] == [False, True]


def test_the_model_based_laws_memory_survives_json_bit_for_bit():
    run = make("repo_neutral")
    run.loop.observe(10.0, 10)
    run.measure(batch())
    other = make("repo_neutral")
    other.load_state_dict(json.loads(json.dumps(run.state_dict(1))), "here")
    assert other.methods[0].memory == run.methods[0].memory
    for each in (run, other):
        each.loop.observe(9.0, 10)
        each.measure(batch())
    assert other.coefficients() == run.coefficients()


def test_a_law_that_knows_not_how_the_loss_weighs_tokens_is_refused():
    with pytest.raises(ConfigError, match="loss_agg_mode=mine: model-based REPO measures a batch as the loss weighs"):
        list(make("repo_neutral", host=replace(HOST, loss_agg_mode="mine")).methods[0].check())


def test_the_old_keys_of_the_model_based_law_are_refused_with_what_replaces_them():
    for key, instead in (("kappa", "gain"), ("cap", "authority"), ("share", "authority")):
        with pytest.raises(
            ConfigError, match=f"entropo.neutral.{key}: this key was removed. Set entropo.neutral.{instead}"
        ):
            parse({"neutral": {key: 0.1}})


def test_entropy_that_moves_against_adapo_is_said_once_with_what_to_do(caplog):
    run = make("adapo", node={"idle_steps": 3})
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        for number in range(1, 9):
            step(run, 1.0 - 0.05 * number, number)
    said = [record.message for record in caplog.records]
    assert len(said) == 1 and "clip_high was raised for 3 steps, and entropy moved the other way" in said[0]
    assert "+entropo=repo_neutral" in said[0]


def test_a_first_entropy_of_zero_is_no_target_without_a_word(caplog):
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        step(make("repo_r"), 0.0)
    assert "a first entropy of 0 is no target" in caplog.text
