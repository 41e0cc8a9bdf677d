import json
import logging
import math

import pytest

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.hosts.verl.run import Run
from entropo_plugin.hosts.verl.startup.plan import Plan


def make(estimator="repo_r", node=None, low=1e-4, high=0.05):
    return Run(Plan(estimator, parse(node), low, high))


def step(run, entropy, number=1, updated=True):
    if entropy is not None:
        run.observe(entropy * 10, 10)
    run.updated = updated
    return run.end_step(number)


def test_one_step_measures_and_moves_once():
    run = make()
    run.observe(12.0, 10)
    run.observe(18.0, 10)
    run.updated = True
    metrics = run.end_step(1)
    assert metrics["entropo/entropy/token_mean"] == 1.5
    assert (metrics["entropo/zeta"], metrics["entropo/target"], metrics["entropo/zeta_next"]) == (1e-3, 1.5, 1e-3)
    assert step(run, 1.4)["entropo/zeta_next"] == 2e-3
    assert run.payload() == {"zeta": 2e-3, "floor": -20.0, "center": False}


def test_frozen_during_critic_warm_up():
    run = make()
    step(run, 1.0, updated=False)
    assert run.controllers["zeta"].target.initial is None and run.coefficient("zeta") == 1e-3


@pytest.mark.parametrize("entropy", [None, math.nan, math.inf])
def test_a_missing_measurement_moves_nothing_and_says_so(entropy, caplog):
    run = make()
    step(run, 1.0)
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        assert step(run, entropy, 7)["entropo/skipped"] == 1.0
    assert "step 7 has no usable entropy" in caplog.text and run.coefficient("zeta") == 1e-3


def test_monitoring_alone_sends_nothing_and_controls_nothing():
    run = make(None)
    assert run.payload() == {}
    assert step(run, 1.0) == {"entropo/entropy/token_mean": 1.0, "entropo/dynamics/pairs": 0.0}


def test_state_survives_json_bit_for_bit():
    run = make()
    for entropy in (1.1, 1.0, 0.9, 1.2, 1.0 / 3.0):
        step(run, entropy)
    other = make()
    other.load_state_dict(json.loads(json.dumps(run.state_dict(5))), "here")
    assert other.state_dict(5) == run.state_dict(5)
    for number, entropy in ((6, 0.7), (7, 1.3), (8, 1.0 / 7.0)):
        assert step(other, entropy, number) == step(run, entropy, number)


def saved(**change):
    zeta = {"law": "doubling", "coefficient": 1e-3, "steps": 0, "skipped": 0, "target": {"initial": None}}
    return {"controllers": {"zeta": zeta | change}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimator": "repo_d"}, "algorithm.adv_estimator was 'repo_d', is 'repo_r'"),
        ({"loss": "adapo"}, "policy_loss.loss_mode was 'adapo', is None"),
        ({"format": 99}, "its format is 99, this version reads 1"),
        (saved(law="fixed"), "the law of zeta was 'fixed', is 'doubling'"),
        ({"controllers": []}, "the law of zeta was None, is 'doubling'"),
        ({"controllers": {"zeta": {"law": "doubling"}}}, "controllers.zeta.coefficient is missing"),
        (saved(coefficient="1"), "controllers.zeta.coefficient='1' is not a finite number"),
        (saved(steps=math.nan), "controllers.zeta.steps=nan is not a count"),
        ({"changes": 3}, "changes=3 is not an object"),
    ],
)
def test_another_runs_state_is_refused_or_reset_by_key(change, message):
    state = make().state_dict(3) | change
    with pytest.raises(ConfigError, match=message + r".*entropo.resume=reset"):
        make().load_state_dict(state, "global_step_3/entropo_state.json")
    run = make(node={"resume": "reset"})
    run.load_state_dict(state, "here")
    assert run.coefficient("zeta") == 1e-3 and run.controllers["zeta"].target.initial is None


def test_adapo_sends_its_bounds_and_moves_clip_high():
    run = Run(Plan(None, parse(None), 1e-4, 0.05, "adapo"))
    assert run.payload() == {"adapo": {"low": 0.2, "high": 0.28, "dual": 3.0, "ratio_bounds": None}}
    step(run, 1.0)
    metrics = step(run, 0.9, 2)
    assert metrics["entropo/clip_high"] == 0.28 and metrics["entropo/clip_high_next"] == pytest.approx(0.28 * 1.1)
    node = {"adapo": {"ratio_max": 4.0, "clip_high": {"law": "additive", "offset": 0.5}}}
    payload = Run(Plan(None, parse(node), 1e-4, 0.05, "adapo")).payload()["adapo"]
    assert payload["high"] == pytest.approx(1 / 0.8 + 0.5 - 1) and payload["ratio_bounds"] == (0.0, 4.0)


def test_kl_covs_beta_is_annealed_once_a_step_and_resumed():
    node = {"kl_cov": {"anneal": {"kind": "linear", "hold": 1, "steps": 2}}}
    run = Run(Plan("repo_r", parse(node), 1e-4, 0.05, "entropo_kl_cov"))
    used = [step(run, 1.0, number)["entropo/beta"] for number in range(1, 6)]
    assert used == [1.0, 1.0, 0.5, 0.0, 0.0]
    other = Run(Plan("repo_r", parse(node), 1e-4, 0.05, "entropo_kl_cov"))
    other.load_state_dict(json.loads(json.dumps(run.state_dict(5))), "here")
    assert other.state_dict(5) == run.state_dict(5)


def test_without_entropy_a_schedule_goes_on_and_no_target_is_said(caplog):
    run = Run(
        Plan(
            None, parse({"kl_cov": {"anneal": {"kind": "linear", "hold": 0, "steps": 2}}}), 1e-4, 0.05, "entropo_kl_cov"
        )
    )
    found = [step(run, None, number) for number in (1, 2, 3)]
    assert [metrics["entropo/beta"] for metrics in found] == [1.0, 0.5, 0.0]
    assert not caplog.records and not any({"entropo/target", "entropo/skipped"} & set(each) for each in found)


def test_the_model_based_law_acts_in_the_step_it_measures_and_once_only():
    run = Run(Plan("repo_neutral", parse({"target": {"kind": "value", "value": 1.5}}), 1e-4, 0.05))
    run.observe(10.0, 10)
    assert run.pull() == run.pull() == pytest.approx(0.1 * 0.5)
    run.updated = True
    metrics = run.end_step(1)
    assert metrics["entropo/pull"] == pytest.approx(0.05) and metrics["entropo/target"] == 1.5
    assert run.controllers["pull"].steps == 1


def test_the_law_is_fitted_on_validation_scores_and_resumed():
    run = make(None)
    for number, entropy in enumerate((math.log(3.0), math.log(2.0)), 1):
        step(run, entropy, number)
        metrics = run.observe_score(1.0 - 0.25 * math.exp(entropy))
    assert metrics["entropo/law/a"] == pytest.approx(0.25) and metrics["entropo/law/ceiling"] == pytest.approx(0.75)
    assert run.observe_score(None) == {}
    other = make(None)
    other.load_state_dict(json.loads(json.dumps(run.state_dict(2))), "here")
    assert other.law.metrics() == run.law.metrics()


def test_a_warning_is_said_once(caplog):
    run = make()
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        for text in ("coarse 1", None, "coarse 2"):
            run.warn_once(text)
    assert "coarse 1" in caplog.text and "coarse 2" not in caplog.text


def test_the_entropy_bonus_follows_the_entropy_from_verls_own_coefficient():
    node = {"entropy_coeff": {"law": "additive", "delta": 0.01, "high": 0.03}}
    run = Run(Plan(None, parse(node), 1e-4, 0.05, None, 0.015))
    used = []
    for number, entropy in enumerate((1.0, 0.9, 0.8, 1.1, 1.2, 1.3, 1.4), 1):
        used.append(run.payload()["entropy_coeff"])
        step(run, entropy, number)
    assert used == pytest.approx([0.015, 0.015, 0.025, 0.03, 0.02, 0.01, 0.0])


def test_a_covariance_method_on_another_loss_has_its_coefficients():
    run = Run(
        Plan(None, parse({"covariance": "kl_cov", "kl_cov": {"beta": 2.0, "penalty": "k3"}}), 1e-4, 0.05, "adapo")
    )
    assert sorted(run.controllers) == ["beta", "clip_high", "ratio"]
    assert run.payload()["penalty"] == {"beta": 2.0, "penalty": "k3"}
    dropping = Run(Plan("repo_r", parse({"covariance": "clip_cov"}), 1e-4, 0.05))
    assert sorted(dropping.controllers) == ["ratio", "zeta"] and "penalty" not in dropping.payload()
