"""Whole verl configurations, composed as the command line composes them, through the driver's start-up check."""

import importlib
import json
import logging
import re

import hydra
import pytest

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.startup import guard, plan
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.recipe_files import folder

CPU = ["+cpu=tiny", "actor_rollout_ref.model.path=/nowhere"]


LOSS = "actor_rollout_ref.actor.policy_loss.loss_mode"
BONUS = ["+entropo=monitor", "algorithm.adv_estimator=grpo", "actor_rollout_ref.actor.calculate_entropy=true"]


def check(*overrides, host=CPU):
    config = compose("ppo_trainer", [*host, *overrides])
    return plan.Plan.from_config(config)


def test_one_key_selects_objective_trainer_and_entropy_in_fp32():
    config = compose("ppo_trainer", ["+entropo=repo_r"])
    assert config.algorithm.adv_estimator == "repo_r"
    assert config.trainer.v1.trainer_mode == "entropo_sync"
    assert config.actor_rollout_ref.actor.entropy_from_logits_with_chunking is True
    (method,) = plan.Plan.from_config(config).methods
    zeta = method.coefficients()["zeta"]
    assert (method.name, method.shapes, zeta.low, zeta.high) == ("repo_r", "worker", 1e-4, 0.05)


def test_repo_d_has_its_own_bounds_and_shapes_on_the_driver():
    (method,) = check("+entropo=repo_d").methods
    zeta = method.coefficients()["zeta"]
    assert (zeta.low, zeta.high, method.shapes) == (1e-3, 10.0, "driver")


def test_old_log_probs_move_repo_r_to_the_driver():
    assert check("+entropo=repo_r", "entropo.repo.logp=old").methods[0].shapes == "driver"


def test_monitoring_leaves_the_users_objective_alone():
    config = compose("ppo_trainer", ["+entropo=monitor", "algorithm.adv_estimator=grpo"])
    assert config.algorithm.adv_estimator == "grpo"
    assert config.actor_rollout_ref.actor.entropy_from_logits_with_chunking is False
    assert plan.Plan.from_config(config).methods == ()


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
            ["+entropo=clip_cov", "entropo.methods=[kl_cov]"],
            "Clip-Cov and KL-Cov are both covariance methods, and only one of them can run. Delete one",
        ),
        (
            ["+entropo=[repo_r,clip_cov]", f"{LOSS}=kl_cov"],
            f"{LOSS}=kl_cov: verl's own kl_cov chooses tokens already, .* Delete {LOSS}",
        ),
        (
            ["+entropo=monitor", "entropo.methods=[clip_cov]", f"{LOSS}=geo_mean"],
            "loss_mode=geo_mean gives every token .* undoes what Clip-Cov does.*Set another",
        ),
        (
            ["+entropo=monitor", "+entropo.covariance=clip_cov"],
            r"entropo.covariance=clip_cov: this key was removed. Write entropo.methods=\[clip_cov\]",
        ),
        (
            ["+entropo=kl_cov", "entropo.kl_cov.scope=mini_batch", "actor_rollout_ref.actor.shuffle=true"],
            "entropo.kl_cov.scope=mini_batch: .* Set actor_rollout_ref.actor.shuffle=false",
        ),
        (
            ["+entropo=monitor", "algorithm.adv_estimator=grpo", "entropo.entropy_coeff.law=additive"],
            "entropy bonus needs the current policy's entropy .*Set actor_rollout_ref.actor.calculate_entropy=true",
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
            "=colocate_async overrides what entropo=repo_r sets. .*set trainer.v1.trainer_mode=entropo_colocate_async",
        ),
        (["+entropo.repo.base=grpo"], "the node entropo needs our trainer"),
        (
            ["+entropo.methods=[adapo]"],
            r"entropo.methods=\[adapo\] needs our trainer, .*=entropo_sync .* or use \+entropo=monitor, which",
        ),
        (
            ["+entropo=monitor", "entropo.methods=[adapo]", "trainer.v1.trainer_mode=separate_async"],
            "trainer_mode=separate_async overrides what entropo=monitor sets. .*move the line `- entropo: monitor`",
        ),
        (["+entropo=repo_r", "trainer.use_v1=false"], "trainer.use_v1=false: .* Set trainer.use_v1=true"),
        (["+entropo=monitor", "distillation.enabled=true"], "distillation.enabled=true: distillation replaces"),
        (
            ["+entropo=repo_r", "algorithm.rollout_correction.bypass_mode=true"],
            "REPO-R needs pi_old's entropy.*bypass_mode=true: .* Set algorithm.rollout_correction.bypass_mode=false",
        ),
        (
            ["+entropo=repo_r", "entropo.repo.center=true"],
            "REPO-R needs the current policy's entropy .* Set actor_rollout_ref.actor.calculate_entropy=true",
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
        ("algorithm.adv_estimator=rep_r", "algorithm.adv_estimator='rep_r': verl knows no such estimator. .*repo_r"),
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


@pytest.mark.parametrize("text", [{"vocab_size": 100}, {"text_config": {"vocab_size": 100}}])
def test_a_target_that_the_models_vocabulary_cannot_have_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(text))
    where = ["+entropo=repo_r", f"actor_rollout_ref.model.path={tmp_path}", "entropo.target.kind=value"]
    with pytest.raises(ConfigError, match="entropo.target.value=5.0: 5 nats .* over 100 tokens has at most .* = 4.605"):
        check(*where, "entropo.target.value=5")
    check(*where, "entropo.target.value=4.5")


def test_the_transformers_rollout_takes_one_worker_a_server_on_any_host():
    settings, size = ["+entropo=repo_r", "actor_rollout_ref.rollout.name=hf"], "rollout.tensor_model_parallel_size="
    check(*settings, f"actor_rollout_ref.{size}1", host=[])
    with pytest.raises(ConfigError, match=f"{size}2, but rollout.name=hf holds the whole model"):
        check(*settings, f"actor_rollout_ref.{size}2", host=[])


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
    assert (
        "zeta stays 0 (nothing moves it), at which REPO-R does nothing"
        in chosen.warnings(compose("ppo_trainer", CPU))[0]
    )
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
    from entropo_plugin.run import Run

    saved = check("+entropo=repo_d")
    state = Run(saved.methods, saved.settings).state_dict(4)
    write_state(tmp_path / "global_step_4", state)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    where = [f"trainer.default_local_dir={tmp_path}", "trainer.resume_mode=auto"]
    with pytest.raises(ConfigError, match=r"entropo.methods was \['repo_d'\], is \['repo_r'\].*entropo.resume=reset"):
        guard.preview_resume(compose("ppo_trainer", [*CPU, "+entropo=repo_r", *where]), check("+entropo=repo_r"))
    guard.preview_resume(compose("ppo_trainer", [*CPU, "+entropo=repo_d", *where]), check("+entropo=repo_d"))


RECIPES = sorted(path.stem for path in (folder() / "entropo").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_choice_of_the_group_is_valid_and_can_be_overridden(name):
    more = ["actor_rollout_ref.actor.calculate_entropy=true"] if name == "entropy_bonus" else []
    chosen = check(f"+entropo={name}", "entropo.idle_steps=7", "algorithm.gamma=0.9", *more)
    assert chosen.settings.idle_steps == 7
    assert (chosen.methods == ()) == (name == "monitor")


def test_one_update_per_batch_is_called_inert():
    one = ["data.train_batch_size=16", "actor_rollout_ref.actor.ppo_mini_batch_size=16"]
    config = compose("ppo_trainer", [*CPU, "+entropo=adapo", *one])
    assert "cannot act with one optimizer step per rollout batch" in plan.Plan.from_config(config).warnings(config)[0]


def test_one_response_to_a_prompt_has_nothing_to_be_compared_with():
    config = compose("ppo_trainer", [*CPU, "+entropo=repo_r", "actor_rollout_ref.rollout.n=1"])
    said = "one response to a prompt: repo_r compares .* Set actor_rollout_ref.rollout.n to 2 or more."
    assert [each for each in plan.Plan.from_config(config).warnings(config) if re.match(said, each)]
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
            "undoes what REPO-D does to single tokens",
        ),
        (["+entropo=repo_d", f"{plan.ACTOR}.policy_loss.loss_mode=dro"], "loss_mode=dro needs .*dro_beta"),
    ],
)
def test_pairs_that_cannot_work_are_refused_with_the_reason(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(*overrides)
    check("+entropo=adapo", "algorithm.adv_estimator=gae", "critic.enable=null")


GRPO = ["algorithm.adv_estimator=grpo", "actor_rollout_ref.rollout.n=8"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            [*GRPO, "+entropo=repo_r", "entropo.repo.zeta.high=0.3"],
            "entropo: REPO-R on grpo advantages; policy loss vanilla; target 1 x the initial entropy; "
            "zeta by doubling within [-0.3, 0.3]",
        ),
        (
            [*GRPO, "+entropo=adapo", f"{LOSS}=vanilla"],
            "entropo: policy loss ADAPO in place of vanilla; target 1 x the initial entropy; "
            "clip_high by multiplicative within [0.05, 5]",
        ),
        (
            [*GRPO, "+entropo=kl_cov", f"{LOSS}=gspo"],
            "entropo: KL-Cov's penalty on 0.002 of the tokens; policy loss gspo; ratio 0.002; beta 1",
        ),
        (
            [*GRPO, "+entropo=clip_cov", f"{LOSS}=gspo", "entropo.clip_cov.ratio=0.01"],
            "entropo: Clip-Cov drops 0.01 of the tokens; policy loss gspo; ratio 0.01",
        ),
        (
            [*GRPO, "+entropo=[repo_neutral,adapo]", "entropo.target.fraction=0.8"],
            "entropo: model-based REPO on grpo advantages; policy loss ADAPO; target 0.8 x the initial entropy; "
            "beta_neutral from each batch; clip_high by multiplicative within [0.05, 5]",
        ),
        ([*GRPO, "+entropo=monitor"], "entropo: measures only; policy loss vanilla"),
    ],
)
def test_a_method_that_was_asked_for_acts_and_one_line_says_so(overrides, line, caplog):
    config = compose("ppo_trainer", [*CPU, *overrides])
    with caplog.at_level(logging.INFO, "entropo_plugin"):
        guard.check_start(config)
    assert line in [record.message for record in caplog.records if record.levelno == logging.INFO]


def test_a_whole_recipe_keeps_its_method_on_the_users_estimator():
    (method,) = check("+recipes=7b/qwen2_5_repo_r", "algorithm.adv_estimator=grpo", host=[]).methods
    assert method.describe() == "REPO-R on grpo advantages"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+entropo=adapo", f"{LOSS}=gspo"],
            f"{LOSS}=gspo: ADAPO has a policy loss of its own, which would replace it. Delete {LOSS}",
        ),
        (
            ["+entropo=clip_cov", f"{LOSS}=clip_cov", "entropo.clip_cov.ratio=0.01"],
            f"{LOSS}=clip_cov: verl's own clip_cov chooses tokens already, .* Delete {LOSS}",
        ),
        (
            ["+entropo=monitor", "entropo.repo.zeta.initial=0.05"],
            "entropo.repo.zeta.initial=0.05: nothing that runs reads it. It is read by repo_d, repo_r",
        ),
        (
            ["+entropo=repo_neutral", "entropo.repo.zeta.initial=0.05"],
            "entropo.repo.zeta.initial=0.05: nothing that runs reads it",
        ),
        (
            ["+entropo=kl_cov", "entropo.target.fraction=0.5"],
            "entropo.target.fraction=0.5: nothing that runs reads it. No method of this run follows the entropy",
        ),
        (
            ["+entropo=repo_r", "algorithm.adv_estimator=grpo", "entropo.repo.base=grpo"],
            "entropo.repo.base=grpo belongs to our own base advantage, but algorithm.adv_estimator=grpo",
        ),
        (
            ["+entropo=repo_r", "algorithm.adv_estimator=rloo", "entropo.repo.min_advantage=0.1"],
            "entropo.repo.min_advantage=0.1 belongs to our own base advantage",
        ),
        (["+entropo=repo_d", "entropo.repo.zeta.law=matched"], "law=matched measures REPO-R's zeta. Set another law"),
        (
            ["+entropo=repo_r_adapo", "entropo.chosen.repo_r=false"],
            "chosen.repo_r=false, but algorithm.adv_estimator=repo",
        ),
        (["+entropo=repo_r", "algorithm.adv_estimator=repo_d"], "REPO-R and REPO-D are both forms of REPO"),
        (["+entropo=repo_r", "trainer.v1.trainer_mode=sync"], "move the line `- entropo: repo_r` below ppo_trainer"),
        (["+entropo=monitor", "entropo.methods=[repo_rr]"], "no method is called 'repo_rr'. Did you mean repo_r?"),
        (["+entropo=monitor", "entropo.methods=[adapo,adapo]"], "entropo.methods names adapo more than once"),
        (["+entropo=monitor", "entropo.methods=adapo"], r"expected a list of names. Write entropo.methods=\[NAME\]"),
    ],
)
def test_a_method_that_could_not_act_does_not_start(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(*overrides)


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("+entrop=repo_r", "entropo"),
        ("+Entropo=repo_r", "entropo"),
        ("+entropoo=repo_r", "entropo"),
        ("+entropy.repo.base=grpo", "entropo"),
        ("+entropo_hst=cpu", "entropo_host"),
        ("+entropo_plugins=repo_r", r"\+entropo=NAME, or a key below entropo"),
        ("+entropo_repo_r=1", r"\+entropo=NAME, or a key below entropo"),
        ("+algorithm.entropo=repo_r", r"\+entropo=NAME, without algorithm"),
        ("+trainer.entrop=repo_r", r"\+entropo=NAME, without trainer"),
        ("+entropo@mine=repo_r", r"\+entropo=NAME, without mine"),
        ("+repo.zeta={high: 0.3}", "entropo.repo"),
        ("+recipe=7b/qwen2_5_repo_r", r"\+recipes=7b/qwen2_5_repo_r"),
        ("+reciepes=repo_r", r"\+recipes=repo_r"),
        ("+recipe=[7b/qwen2_5_repo_r]", r"\+recipes=7b/qwen2_5_repo_r"),
        ("+entropy=[repo_r]", "entropo"),
        ("+repo_r=true", r"\+entropo=repo_r"),
        ("+algorithm.adapo=true", r"\+entropo=NAME, without algorithm"),
        ("+algorithm.entropy=repo_r", r"\+entropo=NAME, without algorithm"),
    ],
)
def test_a_key_that_is_almost_ours_is_refused(override, meant):
    key = "mine.entropo" if "@" in override else override[1:].split("=")[0]
    name = key if "algorithm" in key or "trainer" in key or "mine" in key else key.split(".")[0]
    with pytest.raises(ConfigError, match=f"^{name}: nothing reads this key. Did you mean {meant}[?] Write it so"):
        guard.check_start(compose("ppo_trainer", [*CPU, override]))


@pytest.mark.parametrize("override", ["+entropo=[]", "+recipes=[]", "+cpu=[]", "+entropo={}"])
def test_a_choice_of_nothing_is_refused(override):
    with pytest.raises(ConfigError, match="chooses nothing, and stock training would run"):
        guard.check_start(compose("ppo_trainer", [override]))


@pytest.mark.parametrize(
    "override",
    [
        "+entropy.floor=0.1",
        "+entropy=[0.1,0.2]",
        "+entropy=[mine]",
        "+entropy=null",
        "+algorithm.entropy=0.1",
        "+algorithm.entropy=[0.1]",
        "+recipe=my_own",
        "+recipe=[my_own]",
        "+recipe.name=x",
        "+adapo.mine=1",
        "+stare=at_this",
        "+data.stare=false",
    ],
)
def test_a_users_own_key_is_theirs(override):
    guard.check_start(compose("ppo_trainer", [*CPU, override]))


def test_the_cpu_host_alone_does_not_say_that_it_measures(caplog):
    with caplog.at_level(logging.INFO, "entropo_plugin"):
        guard.check_start(compose("ppo_trainer", CPU))
    assert "entropo: the CPU host, and nothing else of ours; nothing is measured" in caplog.messages


def own_yaml(folder, defaults, body=""):
    """A user's primary config that names GRPO in its body."""
    lines = "\n".join(f"  - {each}" for each in defaults)
    text = f"defaults:\n{lines}\nalgorithm:\n  adv_estimator: grpo\nactor_rollout_ref:\n  rollout:\n    n: 4\n"
    (folder / "mine.yaml").write_text(f"{text}{body}hydra:\n  searchpath: [pkg://verl.trainer.config]\n")
    with hydra.initialize_config_dir(str(folder), version_base=None):
        return hydra.compose("mine")


def test_a_users_own_yaml_that_names_grpo_in_its_body_runs_the_method(tmp_path):
    config = own_yaml(tmp_path, ["ppo_trainer", "entropo: repo_r", "_self_"])
    (method,) = plan.Plan.from_config(config).methods
    assert method.describe() == "REPO-R on grpo advantages"


def test_a_users_own_yaml_with_the_lines_in_the_wrong_order_is_told_to_move_one(tmp_path):
    config = own_yaml(tmp_path, ["entropo: repo_r", "ppo_trainer", "_self_"])
    with pytest.raises(ConfigError, match="move the line `- entropo: repo_r` below ppo_trainer"):
        plan.Plan.from_config(config)


@pytest.mark.parametrize("chosen", [["entropo: repo_r"], ["entropo: top_entropy"], ["entropo: adapo"], []])
def test_an_empty_node_in_a_users_own_yaml_is_refused(tmp_path, chosen):
    """``entropo:`` with only comments below it is null, and null replaces all that the choice had set."""
    config = own_yaml(tmp_path, ["ppo_trainer", *chosen, "_self_"], "entropo:\n  # repo: {base: grpo}\n")
    with pytest.raises(ConfigError, match="^entropo=null chooses nothing, and stock training would run: null also de"):
        guard.check_start(config)


def test_a_name_in_place_of_the_node_is_answered_with_the_choice_to_write(tmp_path):
    config = own_yaml(tmp_path, ["ppo_trainer", "_self_"], "entropo: repo_r\n")
    with pytest.raises(ConfigError, match=r"^entropo=repo_r: text below entropo chooses nothing. Write \+entropo=rep"):
        guard.check_start(config)


def test_a_line_that_stands_too_early_is_named_where_the_body_sets_our_trainer(tmp_path):
    early, late = (
        own_yaml(tmp_path, order, "trainer: {v1: {trainer_mode: entropo_sync}}\n")
        for order in (["entropo: repo_r", "ppo_trainer", "_self_"], ["ppo_trainer", "entropo: repo_r", "_self_"])
    )
    (said,) = plan.overridden(early, plan.Plan.from_config(early).settings)
    assert said.startswith(
        "entropo=repo_r sets algorithm.adv_estimator=repo_r and "
        "actor_rollout_ref.actor.entropy_from_logits_with_chunking=true, and here they are grpo and false. If that is "
        "not your choice: In a YAML of your own, move the line `- entropo: repo_r` below ppo_trainer"
    )
    assert list(plan.overridden(late, plan.Plan.from_config(late).settings)) == []


def test_verls_clip_is_said_where_the_loss_does_not_read_it():
    clip = [f"{plan.ACTOR}.clip_ratio_high=0.28", f"{plan.ACTOR}.clip_ratio_low=null", f"{plan.ACTOR}.clip_ratio=0.3"]
    config = compose("ppo_trainer", [*CPU, "+entropo=adapo", *clip])
    said = [each for each in plan.Plan.from_config(config).warnings(config) if "does not read it" in each]
    assert said == [
        f"{plan.ACTOR}.{key}: the policy loss of ADAPO does not read it; its own are under entropo.adapo."
        for key in ("clip_ratio=0.3", "clip_ratio_high=0.28")
    ]
    assert check("+entropo=adapo").host.clip_set == {}


@pytest.mark.parametrize("choice", ["[adapo,clip_cov]", "[clip_cov,adapo]"])
def test_several_choices_are_merged_in_any_order(choice):
    methods = {method.name: method for method in check(f"+entropo={choice}").methods}
    assert sorted(methods) == ["adapo", "clip_cov"]
    assert methods["adapo"].owns_loss and methods["clip_cov"].drops and not methods["clip_cov"].owns_loss


def test_stock_runs_are_not_touched_by_the_check():
    guard.check_start(compose("ppo_trainer", []))


def test_a_setting_of_another_loss_of_verls_is_said():
    """A user who comes from verl's kl_cov deletes loss_mode and keeps the rest, which our KL-Cov does not read."""
    loss = "actor_rollout_ref.actor.policy_loss"
    config = compose("ppo_trainer", [*CPU, "+entropo=kl_cov", f"{loss}.kl_cov_ratio=0.02", f"{loss}.ppo_kl_coef=1.0"])
    said = [each for each in plan.Plan.from_config(config).warnings(config) if "verl's own loss_mode" in each]
    ending = "only verl's own loss_mode=kl_cov reads it, and that does not run. The settings of our methods stand below"
    assert said == [f"{loss}.kl_cov_ratio=0.02: {ending} entropo.", f"{loss}.ppo_kl_coef=1.0: {ending} entropo."]


def test_a_setting_that_the_loss_in_force_reads_is_not_said():
    loss = "actor_rollout_ref.actor.policy_loss"
    config = compose("ppo_trainer", [*CPU, "+entropo=repo_r", f"{loss}.loss_mode=kl_cov", f"{loss}.kl_cov_ratio=0.02"])
    assert not [each for each in plan.Plan.from_config(config).warnings(config) if "verl's own loss_mode" in each]
