"""Whole verl configurations, composed as the command line composes them, through the driver's start-up check."""

import importlib
import logging

import pytest

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.startup import guard, plan
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.recipe_files import folder

CPU = ["+cpu=tiny", "actor_rollout_ref.model.path=/nowhere"]


BONUS = ["+entropo=monitor", "algorithm.adv_estimator=grpo", "actor_rollout_ref.actor.calculate_entropy=true"]


def check(*overrides, host=CPU):
    config = compose("ppo_trainer", [*host, *overrides])
    return plan.Plan.from_config(config)


def test_one_key_selects_objective_trainer_and_entropy_in_fp32():
    config = compose("ppo_trainer", ["+entropo=repo_r"])
    assert config.algorithm.adv_estimator == "repo_r"
    assert config.trainer.v1.trainer_mode == "entropo_sync"
    assert config.actor_rollout_ref.actor.entropy_from_logits_with_chunking is True
    chosen = plan.Plan.from_config(config)
    assert (chosen.estimator, chosen.low, chosen.high) == ("repo_r", 1e-4, 0.05)
    assert chosen.shapes_in_loss and not chosen.shapes_on_driver


def test_repo_d_has_its_own_bounds_and_shapes_on_the_driver():
    chosen = check("+entropo=repo_d")
    assert (chosen.low, chosen.high, chosen.shapes_on_driver) == (1e-3, 10.0, True)


def test_old_log_probs_move_repo_r_to_the_driver():
    assert check("+entropo=repo_r", "entropo.repo.logp=old").shapes_on_driver


def test_monitoring_leaves_the_users_objective_alone():
    config = compose("ppo_trainer", ["+entropo=monitor", "algorithm.adv_estimator=grpo"])
    assert config.algorithm.adv_estimator == "grpo"
    assert config.actor_rollout_ref.actor.entropy_from_logits_with_chunking is False
    assert plan.Plan.from_config(config).estimator is None


def test_any_primary_config_takes_the_key():
    config = compose("ppo_megatron_trainer", ["+entropo=repo_r"])
    assert config.algorithm.adv_estimator == "repo_r"


def test_stock_runs_are_not_our_business():
    assert not plan.concerns(compose("ppo_trainer", []))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+entropo=repo_r", "+entropo.repo.zeta.hihg=1"], "entropo.repo.zeta.hihg: unknown key"),
        (["+entropo=repo_r", "entropo.repo.zeta.high=1000"], "entropo.repo.zeta.high=1000.0: out of range"),
        (["+entropo=repo_r", "entropo.repo.zeta.high=1e-6"], "entropo.repo.zeta.low=0.0001 exceeds"),
        (
            ["+entropo=clip_cov", "entropo.covariance=kl_cov"],
            "loss_mode=entropo_clip_cov is a covariance method already",
        ),
        (
            ["+entropo=repo_r", "entropo.covariance=clip_cov", "actor_rollout_ref.actor.policy_loss.loss_mode=kl_cov"],
            "loss_mode=kl_cov is a covariance",
        ),
        (
            [
                "+entropo=monitor",
                "entropo.covariance=clip_cov",
                "actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean",
            ],
            "loss_mode=geo_mean averages advantages.*Set another loss_mode",
        ),
        (
            ["+entropo=kl_cov", "entropo.kl_cov.scope=mini_batch", "actor_rollout_ref.actor.shuffle=true"],
            "entropo.kl_cov.scope=mini_batch: with actor_rollout_ref.actor.shuffle=true",
        ),
        (
            ["+entropo=monitor", "algorithm.adv_estimator=grpo", "entropo.entropy_coeff.law=additive"],
            "entropo.entropy_coeff.law=additive needs the entropy in the update.*calculate_entropy=true",
        ),
        (
            [*BONUS, "entropo.entropy_coeff.law=multiplicative"],
            "law=multiplicative cannot leave 0. Set entropo.entropy_coeff.initial",
        ),
        (
            [*BONUS, "entropo.entropy_coeff.law=additive", "entropo.entropy_coeff.initial=0.2"],
            r"entropo.entropy_coeff starts at 0.2, outside \[0.0, 0.05\]",
        ),
        (["algorithm.adv_estimator=repo_r"], "needs our trainer, but trainer.v1.trainer_mode=sync. Set .*entropo_sync"),
        (
            ["+entropo=repo_r", "trainer.v1.trainer_mode=colocate_async"],
            "trainer_mode=colocate_async. Set trainer.v1.trainer_mode=entropo_colocate_async",
        ),
        (["+entropo.repo.base=grpo"], "the node entropo needs our trainer"),
        (["+entropo=repo_r", "trainer.use_v1=false"], "trainer.use_v1=false: .* Set trainer.use_v1=true"),
        (["+entropo=monitor", "distillation.enabled=true"], "distillation.enabled=true: distillation replaces"),
        (
            ["+entropo=repo_r", "algorithm.rollout_correction.bypass_mode=true"],
            "bypass_mode=true: .* no exact entropy .*Set bypass_mode=false",
        ),
        (
            ["+entropo=repo_r", "entropo.repo.center=true"],
            "entropo.repo.center=true with logp=current .* Set actor_rollout_ref.actor.calculate_entropy=true",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(*overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train_batch_size=0", "data.train_batch_size=0: expected a whole number, at least 1"),
        ("actor_rollout_ref.actor.ppo_epochs=1.5", "actor.ppo_epochs=1.5: expected a whole number"),
        ("trainer.use_v1=yes_please", "trainer.use_v1='yes_please': expected true or false"),
        ("actor_rollout_ref.actor.entropy_coeff=nan", "actor.entropy_coeff=nan: expected a finite number"),
        ("algorithm.adv_estimator=[repo_r]", r"algorithm.adv_estimator=\['repo_r'\]: expected a name"),
        ("trainer.v1=3", "trainer.v1=3: expected a group of keys"),
        ("actor_rollout_ref.actor.policy_loss.loss_mode=null", "loss_mode=None: verl knows no such loss"),
        (
            "actor_rollout_ref.actor.policy_loss.loss_mode=adapoo",
            "='adapoo': verl knows no such loss. .*adapo",
        ),
        ("trainer.resume_mode=always", "trainer.resume_mode='always': expected one of auto | disable | resume_path"),
        ("trainer.resume_mode=resume_path", "trainer.resume_from_path=None: .* named global_step_N"),
        ("trainer.resume_mode=null", "trainer.resume_mode is not set"),
        ("trainer.critic_warmup=${nowhere}", "trainer.critic_warmup cannot be resolved: Interpolation key 'nowhere'"),
        ("entropo.repo.zeta.high=${nowhere}", "entropo: cannot be resolved: Interpolation key 'nowhere'"),
        ("entropo.repo.zeta.initial=0.1", r"entropo.repo.zeta.initial=0.1 lies outside \[-0.05, 0.05\]"),
        ("entropo.clip_cov.anneal.end=2", r"entropo.clip_cov.anneal.end=2.0: out of range. .* \[0, 1\]"),
        ("entropo.adapo.clip_high.anneal.end=-1", r"clip_high.anneal.end=-1.0: out of range. .* \[0, 100\]"),
        ("entropo.kl_cov.anneal.end=-0.1", r"entropo.kl_cov.anneal.end=-0.1: out of range. .* \[0, 1000\]"),
    ],
)
def test_wrong_values_of_the_keys_that_we_read_are_refused_by_name(override, message):
    with pytest.raises(ConfigError, match=message.replace(" | ", r" \| ")):
        check("+entropo=repo_r", override)


def test_a_marker_that_a_crash_left_empty_is_refused_by_path(tmp_path):
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("")
    where = [f"trainer.default_local_dir={tmp_path}", "trainer.resume_mode=auto"]
    with pytest.raises(ConfigError, match=f"{tmp_path}/latest_checkpointed_iteration.txt holds no step"):
        guard.preview_resume(compose("ppo_trainer", [*CPU, "+entropo=repo_r", *where]), check("+entropo=repo_r"))


def test_the_transformers_rollout_is_refused_without_the_cpu_host():
    with pytest.raises(ConfigError, match="rollout.name=hf is part of the CPU host. Add .entropo_host=cpu"):
        check("+entropo=repo_r", "actor_rollout_ref.rollout.name=hf", host=[])


@pytest.mark.parametrize("missing", ["transfer_queue", "vllm"])
def test_a_missing_package_is_named_with_its_remedy(missing, monkeypatch):
    find = plan.importlib.util.find_spec
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ConfigError, match="pip install"):
        check("+entropo=repo_r")


def test_warnings_name_inert_zeta_and_coarse_entropy(caplog, monkeypatch):
    monkeypatch.setattr(plan, "exact_entropy", lambda: False)
    chosen = check("+entropo=repo_r", "entropo.repo.zeta.law=fixed", "entropo.repo.zeta.initial=0")
    config = compose("ppo_trainer", ["+entropo=monitor"])
    assert "leaves every advantage as it is" in chosen.warnings(compose("ppo_trainer", CPU))[0]
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        guard.check_start(config)
    assert "entropy_from_logits_with_chunking=false" in caplog.text


def test_a_verl_with_exact_entropy_needs_no_warning(monkeypatch):
    chosen, config = check("+entropo=monitor"), compose("ppo_trainer", ["+entropo=monitor"])
    for exact, expected in ((False, 1), (True, 0)):
        monkeypatch.setattr(plan, "exact_entropy", lambda exact=exact: exact)
        assert sum("fp32 entropy" in sentence for sentence in chosen.warnings(config)) == expected


@pytest.mark.parametrize(("dtype", "said"), [("bf16", 1), ("fp32", 0)])
def test_padded_batches_are_said_to_take_no_fp32_entropy(dtype, said, monkeypatch):
    monkeypatch.setattr(plan, "exact_entropy", lambda: False)
    mixed = f"+actor_rollout_ref.actor.fsdp_config.mixed_precision={{param_dtype: {dtype}}}"
    config = compose("ppo_trainer", ["+entropo=repo_r", "actor_rollout_ref.model.use_remove_padding=false", mixed])
    found = plan.Plan.from_config(config).warnings(config)
    assert sum(each.startswith("actor_rollout_ref.model.use_remove_padding=false") for each in found) == said


def test_the_check_runs_inside_verls_own_validation():
    from verl.utils import config as verl_config

    assert getattr(verl_config.validate_config, guard.MARK)
    with pytest.raises(ConfigError, match="entropo.repo.zeta.high"):
        verl_config.validate_config(
            compose("ppo_trainer", ["+entropo=repo_r", "entropo.repo.zeta.high=1e9"]), False, False
        )


def test_bypassing_the_log_probs_is_said_to_measure_no_entropy():
    bypass = "algorithm.rollout_correction.bypass_mode=true"
    overrides = [*CPU, "+entropo=monitor", bypass]
    config = compose("ppo_trainer", overrides)
    (said,) = plan.Plan.from_config(config).warnings(config)
    assert said.startswith(f"{bypass}: verl computes no entropy") and "entropo/entropy/sampled_estimate" in said


@pytest.mark.parametrize("path", ["one_step_off_policy.main_ppo", "fully_async_policy.fully_async_main"])
def test_experimental_trainers_are_refused_before_ray_starts(path):
    from verl.trainer import main_ppo

    module = importlib.import_module(f"verl.experimental.{path}")
    (runner,) = (getattr(module, name) for name in guard.OTHER_TRAINERS if hasattr(module, name))
    with pytest.raises(ConfigError, match=f"verl.experimental.{path.split('.')[0]} has a trainer of its own"):
        main_ppo.run_ppo(compose("ppo_trainer", ["+entropo=monitor"]), task_runner_class=runner)
    guard.check_runner(compose("ppo_trainer", []), runner)
    guard.check_runner(compose("ppo_trainer", ["+entropo=monitor"]), main_ppo.TaskRunnerV1)


def test_a_verl_outside_the_range_is_refused(monkeypatch):
    from entropo_plugin import plugin

    monkeypatch.setattr(plugin, "verl_version", lambda: "0.8.0")
    with pytest.raises(ConfigError, match="verl 0.8.0 is installed, entropo_plugin supports verl>=0.9.1,<0.10"):
        guard.check_start(compose("ppo_trainer", ["+entropo=repo_r"]))


def test_a_state_that_does_not_fit_is_refused_on_the_driver(tmp_path):
    from entropo_plugin.hosts.verl.checkpoint import write_state
    from entropo_plugin.hosts.verl.run import Run

    state = Run(check("+entropo=repo_d")).state_dict(4)
    write_state(tmp_path / "global_step_4", state)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    where = [f"trainer.default_local_dir={tmp_path}", "trainer.resume_mode=auto"]
    with pytest.raises(ConfigError, match="adv_estimator was 'repo_d', is 'repo_r'.*entropo.resume=reset"):
        guard.preview_resume(compose("ppo_trainer", [*CPU, "+entropo=repo_r", *where]), check("+entropo=repo_r"))
    guard.preview_resume(compose("ppo_trainer", [*CPU, "+entropo=repo_d", *where]), check("+entropo=repo_d"))


RECIPES = sorted(path.stem for path in (folder() / "entropo").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_choice_of_the_group_is_valid_and_can_be_overridden(name):
    chosen = check(f"+entropo={name}", "entropo.target.fraction=0.5", "algorithm.gamma=0.9")
    assert chosen.settings.target.fraction == 0.5
    assert (chosen.estimator is None and chosen.loss is None) == (name == "monitor")


def test_one_update_per_batch_is_called_inert():
    one = ["data.train_batch_size=16", "actor_rollout_ref.actor.ppo_mini_batch_size=16"]
    config = compose("ppo_trainer", [*CPU, "+entropo=adapo", *one])
    assert "cannot act with one optimizer step per rollout batch" in plan.Plan.from_config(config).warnings(config)[0]


def test_one_response_to_a_prompt_has_nothing_to_be_compared_with():
    config = compose("ppo_trainer", [*CPU, "+entropo=repo_r", "actor_rollout_ref.rollout.n=1"])
    assert "rollout.n=1: repo_r compares the responses" in plan.Plan.from_config(config).warnings(config)[-1]
    config.actor_rollout_ref.rollout.n = 2
    assert not [each for each in plan.Plan.from_config(config).warnings(config) if "rollout.n" in each]


@pytest.mark.stock
def test_an_estimator_that_v1_does_not_feed_is_refused():
    with pytest.raises(ConfigError, match="adv_estimator=remax needs reward_baselines"):
        check("+entropo=adapo", "algorithm.adv_estimator=remax")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+entropo=adapo", "algorithm.adv_estimator=gae", "critic.enable=false"], "gae needs a critic's values"),
        (
            ["+entropo=repo_d", f"{plan.ACTOR}.policy_loss.loss_mode=geo_mean"],
            "undoes what algorithm.adv_estimator=rep",
        ),
        (["+entropo=repo_d", f"{plan.ACTOR}.policy_loss.loss_mode=dro"], "loss_mode=dro needs .*dro_beta"),
    ],
)
def test_pairs_that_cannot_work_are_refused_with_the_reason(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(*overrides)
    check("+entropo=adapo", "algorithm.adv_estimator=gae", "critic.enable=null")
