"""What entropo_plugin leans on in verl: names, signatures, fields, order of calls, behaviour.

When a new verl fails here, the sentence says what changed and which file of ours to look at. ``make contract`` runs it
on every verl in the supported range and on the last one below it, which is refused by name.
"""

import importlib
import inspect
import re

import pytest
import torch
import verl
from omegaconf import OmegaConf
from tensordict import NonTensorData, TensorDict

from entropo_plugin import plugin
from entropo_plugin.config import ConfigError
from entropo_plugin.recipe_files import folder

BASE = "verl.trainer.ppo.v1.trainer_base"
HOST = "entropo_plugin/hosts/verl"


def found(path):
    """The object at a dotted path; None where verl has none."""
    module, rest = path, []
    while module:
        try:
            thing = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, name = module.rpartition(".")
            rest.insert(0, name)
            continue
        for name in rest:
            thing = getattr(thing, name, None)
        return thing
    return None


def must(fine, what, look_at):
    """Fail with a sentence instead of a traceback."""
    if not fine:
        pytest.fail(f"verl {verl.__version__}: {what}. Look at {look_at}.", pytrace=False)


def source(path, look_at):
    thing = found(path)
    must(thing is not None, f"{path} does not exist", look_at)
    return inspect.getsource(thing)


SIGNATURES = [
    (f"{BASE}.PPOTrainer.__init__", ["self", "config"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer._setup", ["self"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer.step", ["self", "metrics", "timing_raw"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer._compute_old_log_prob", ["self", "batch", "metrics"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer._compute_advantage", ["self", "batch", "metrics"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer._update_actor", ["self", "batch", "metrics"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer._compute_metrics", ["self", "batch", "metrics"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer._save_checkpoint", ["self"], "driver/trainer.py"),
    (f"{BASE}.PPOTrainer._load_checkpoint", ["self"], "driver/trainer.py"),
    ("verl.trainer.ppo.v1.register_trainer", ["name"], "driver/trainer.py"),
    ("verl.trainer.ppo.core_algos.register_adv_est", ["name_or_enum"], "driver/estimators.py"),
    ("verl.trainer.ppo.core_algos.register_policy_loss", ["name"], "worker/policy_losses.py"),
    ("verl.trainer.ppo.core_algos.agg_loss", ["loss_mat", "loss_mask", "loss_agg_mode"], "worker/policy_losses.py"),
    ("verl.workers.utils.losses.ppo_loss", ["config", "model_output", "data", "dp_group"], "worker/loss.py"),
    ("verl.workers.utils.padding.no_padding_2_padding", ["tensor", "data"], "worker/layout.py"),
    ("verl.workers.utils.padding.response_to_nested", ["tensor", "response_mask"], "driver/trainer.py"),
    ("verl.utils.tensordict_utils.get_non_tensor_data", ["data", "key", "default"], "worker/loss.py"),
    ("verl.utils.config.omega_conf_to_dataclass", ["config"], "driver/trainer.py"),
    ("verl.utils.config.validate_config", ["config", "use_reference_policy", "use_critic"], "startup/guard.py"),
    ("verl.trainer.main_ppo.run_ppo", ["config", "task_runner_class"], "startup/guard.py"),
    ("verl.utils.checkpoint.checkpoint_manager.find_latest_ckpt_path", ["path"], "checkpoint.py"),
    ("verl.utils.checkpoint.checkpoint_manager.get_checkpoint_tracker_filename", ["root_path"], "checkpoint.py"),
    ("verl.trainer.ppo.utils.need_critic", ["config"], "startup/doctor.py"),
    ("verl.trainer.ppo.utils.need_reference_policy", ["config"], "startup/doctor.py"),
    ("verl.workers.engine_workers.ActorRolloutRefWorker.set_loss_fn", ["self", "loss_fn"], "driver/trainer.py"),
    ("verl.utils.distributed.initialize_global_process_group_ray", ["timeout_second", "backend"], "cpu/shims.py"),
    (
        "verl.utils.model.load_valuehead_model",
        ["local_path", "torch_dtype", "model_config", "trust_remote_code"],
        "cpu/shims.py",
    ),
    ("verl.workers.rollout.replica.RolloutReplicaRegistry.register", ["name", "loader"], "cpu/shims.py"),
    ("verl.workers.rollout.base.BaseRollout.__init__", ["self", "config", "model_config", "device_mesh"], "cpu"),
]


@pytest.mark.parametrize(("path", "names", "file"), SIGNATURES, ids=[path for path, *_ in SIGNATURES])
def test_signatures(path, names, file):
    thing, look_at = found(path), f"{HOST}/{file}"
    must(thing is not None, f"{path} does not exist any more", look_at)
    now = list(inspect.signature(inspect.unwrap(thing)).parameters)
    must(now[: len(names)] == names, f"{path} takes ({', '.join(now)}), we call it with ({', '.join(names)})", look_at)


NAMES = {
    "startup/guard.py": [
        "verl.experimental.one_step_off_policy.main_ppo.OneStepTaskRunner",
        "verl.experimental.fully_async_policy.fully_async_main.FullyAsyncTaskRunner",
    ],
    "driver/trainer.py": [f"verl.trainer.ppo.v1.{name}" for name in ("PPOTrainerSync", "PPOTrainerColocateAsync")]
    + ["verl.trainer.ppo.v1.PPOTrainerSeparateAsync", f"{BASE}.TRAINER_REGISTRY"],
    "startup/doctor.py": ["verl.trainer.ppo.core_algos.ADV_ESTIMATOR_REGISTRY", "verl.utils.device.get_device_name"],
    "startup/verl_keys.py": ["verl.trainer.ppo.core_algos.POLICY_LOSS_REGISTRY"],
    "worker/loss.py": ["verl.utils.metric.AggregationType.SUM", "verl.utils.metric.Metric.aggregate"],
    "cpu/platform.py": [f"verl.plugin.platform.{name}" for name in ("PlatformBase", "PlatformRegistry.register")]
    + ["verl.plugin.platform.PlatformRegistry.get", "verl.plugin.platform.platform_manager._current_platform"],
    "startup/registration.py": [
        "verl.workers.rollout.replica.RolloutReplicaRegistry._registry",
        "verl.workers.rollout.base._ROLLOUT_REGISTRY",
    ],
    "hf_rollout.py": [f"verl.workers.rollout.replica.{name}" for name in ("RolloutReplica", "TokenOutput")]
    + ["verl.workers.config.HFModelConfig", "verl.workers.rollout.base.BaseRollout"]
    + [f"verl.utils.device.{name}" for name in ("get_device_name", "get_resource_name", "get_visible_devices_keyword")]
    + ["verl.plugin.platform.get_platform"],
    "driver/batch_cache.py": ["transfer_queue.kv_batch_get", "transfer_queue.kv_batch_put"],
}
CASES = [(path, file) for file, paths in NAMES.items() for path in paths]


@pytest.mark.parametrize(("path", "file"), CASES, ids=[path for path, _ in CASES])
def test_names(path, file):
    module, _, name = path.rpartition(".")
    holder = found(module)
    must(holder is not None and hasattr(holder, name), f"{path} does not exist any more", f"{HOST}/{file}")


# (function, texts in the order in which they must stand, what that means, our file)
TEXTS = [
    (
        "verl.trainer.main_ppo.main",
        ["validate_config("],
        "the driver checks the configuration first",
        "startup/guard.py",
    ),
    (
        f"{BASE}.PPOTrainer._step_once",
        ["_balance_batch", "_compute_old_log_prob", "_compute_advantage", "critic_warmup", "_update_actor"],
        "a step runs in this order, and the warm-up of the critic skips the actor",
        "driver/trainer.py",
    ),
    (
        f"{BASE}.PPOTrainer._compute_old_log_prob",
        ["bypass_mode", "calculate_entropy", '"entropy"', "kv_batch_put"],
        "pi_old's exact entropy is put into TransferQueue",
        "driver/trainer.py",
    ),
    (
        f"{BASE}.PPOTrainer._compute_advantage",
        ['"response_mask"', '"old_log_probs"', "compute_advantage_for_multi_trajectories", "batch_keys=batch.keys"],
        "advantages are computed once over the batch, from these fields",
        "driver/estimators.py",
    ),
    (
        f"{BASE}.PPOTrainer._compute_advantage",
        ["response_to_nested", "kv_batch_put"],
        "advantages go back as jagged fields",
        "driver/trainer.py",
    ),
    (
        f"{BASE}.PPOTrainer._update_actor",
        ["batch.extra_info.update", "update_actor(batch)", "reduce_metrics"],
        "extra_info rides to the workers, and their metrics are reduced",
        "driver/trainer.py",
    ),
    *(
        (f"{BASE}.PPOTrainer.{name}", texts, "what we measure passes through the driver", "driver/batch_cache.py")
        for name, texts in {
            "_compute_old_log_prob": ["tq.kv_batch_get(", '"old_log_probs", "entropy"'],
            "_compute_advantage": ['"uid", "response_mask", "rm_scores", "rollout_log_probs"', "tq.kv_batch_get("],
            "_compute_metrics": ['"responses"', "kv_batch_get=tq.kv_batch_get"],
        }.items()
    ),
    (
        f"{BASE}.PPOTrainer.step",
        ["combined_tags", "KVBatchMeta("],
        "a step returns the keys of its rows",
        "metrics/step.py",
    ),
    (f"{BASE}.PPOTrainer.step", ["is_padding"], "padding rows are tagged", "metrics/step.py"),
    (
        f"{BASE}.PPOTrainer._save_checkpoint",
        ["default_local_dir", "global_step_{self.global_steps}", "latest_checkpointed_iteration.txt"],
        "a checkpoint's folder is global_step_N, and the marker is written last",
        "driver/trainer.py",
    ),
    (
        f"{BASE}.PPOTrainer._load_checkpoint",
        ["self.global_steps = 0", "find_latest_ckpt_path", "resume_from_path", "global_step_"],
        "it resumes from where we look",
        "checkpoint.py",
    ),
    (f"{BASE}.PPOTrainer.__init__", ["trainer_mode"], "the mode's name is read from the config", "driver/trainer.py"),
    (
        "verl.utils.tracking.FileLogger",
        ["VERL_FILE_LOGGER_PATH", '"step"', '"data"'],
        "its log's form",
        "report/jsonl.py",
    ),
    ("verl", ['group="verl.plugins"', ".load()"], "plugins are found by this entry point group", "plugin.py"),
    (
        "verl.workers.engine.fsdp.transformer_impl",
        ["isfinite(grad_norm)", "zero_grad()"],
        "a step whose gradient is not finite is skipped",
        "docs/reliability.md",
    ),
    (
        "verl.workers.utils.losses.ppo_loss",
        [
            'global_batch_info["dp_size"]',
            'global_batch_info["batch_num_tokens"]',
            "get_policy_loss_fn",
            "old_log_prob=",
        ],
        "a registered loss is called by keyword, with the batch's numbers in its config",
        "worker/policy_losses.py",
    ),
]


@pytest.mark.parametrize(("path", "texts", "what", "file"), TEXTS, ids=[f"{p}: {w}" for p, _, w, _ in TEXTS])
def test_source_facts(path, texts, what, file):
    code, place = source(path, f"{HOST}/{file}"), 0
    for text in texts:
        place = code.find(text, place)
        must(place >= 0, f"in {path}, {text} is not where it was ({what})", f"{HOST}/{file}")


def composed(primary="ppo_trainer"):
    import hydra

    with hydra.initialize_config_module("verl.trainer.config", version_base=None):
        return hydra.compose(primary, ["actor_rollout_ref.model.path=/nowhere"])


def recipe_keys():
    """Every key of verl's that our recipes set."""
    import yaml

    for path in sorted(folder().glob("*/*.yaml")):
        tree = {} if path.parent.name == "entropo_settings" else yaml.safe_load(path.read_text())
        tree.pop("defaults", None)
        tree.pop("entropo", None)
        yield from ((key, path.name) for key in leaves(tree))


def leaves(tree, path=""):
    for name, value in tree.items():
        yield from leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else [f"{path}{name}"]


def dataclass_fields(where):
    """Keys that a strict dataclass of verl's takes without a line in its YAML."""
    kinds = {"actor_rollout_ref.rollout": "verl.workers.config.RolloutConfig"}
    return found(kinds[where]).__dataclass_fields__ if where in kinds else ()


FREE = ("override_config.", "runtime_env.", "mixed_precision", "num_cpus", "num_gpus", "include_dashboard", "dro_beta")
FREE += ("override_transformer_config.", "ray_init.address")


def test_every_key_that_we_set_or_read_exists():
    from entropo_plugin.hosts.verl.startup import verl_keys

    config, megatron, missing = composed(), composed("ppo_megatron_trainer"), []
    read = [(path, "startup/verl_keys.py") for paths, *_ in verl_keys.KINDS for path in paths]
    for path, file in [*read, *recipe_keys()]:
        where, _, name = path.rpartition(".")
        holder = OmegaConf.select(megatron if "megatron" in file else config, where)
        known = OmegaConf.is_dict(holder) and name in [*holder.keys(), *dataclass_fields(where)]
        if not known and not any(word in path for word in FREE):
            missing.append(f"{path} ({file})")
    must(not missing, f"these keys are gone from its configuration: {', '.join(missing)}", "recipes/ and plan.py")


def test_unknown_keys_at_the_top_are_free():
    config = composed()
    OmegaConf.set_struct(config, False)
    config.entropo = {"repo": {"base": "rloo"}}
    must(
        OmegaConf.select(config, "entropo.repo.base") == "rloo",
        "a top-level node of ours is not kept",
        "startup/plan.py",
    )


def micro_batch():
    rows = [torch.arange(5.0), torch.arange(4.0)]
    nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    parts = {"prompts": [2, 1], "responses": [3, 3]}
    data = {
        name: torch.nested.as_nested_tensor([torch.ones(n, dtype=torch.int64) for n in sizes], layout=torch.jagged)
        for name, sizes in parts.items()
    }
    for name in ("response_mask", "old_log_probs", "advantages"):
        kind = torch.int64 if name == "response_mask" else torch.float32
        data[name] = torch.nested.as_nested_tensor([torch.ones(3, dtype=kind)] * 2, layout=torch.jagged)
    found = TensorDict(data | {"input_ids": nested}, batch_size=2)
    for name, value in {"dp_size": 1, "batch_num_tokens": 6, "global_batch_size": 2}.items():
        found[name] = NonTensorData(value)
    return found, nested


def test_a_response_starts_one_token_before_its_place():
    from verl.workers.utils.padding import no_padding_2_padding

    data, nested = micro_batch()
    rows = no_padding_2_padding(nested, data)[:, :3].tolist()
    must(rows == [[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]], f"no_padding_2_padding gives {rows}", f"{HOST}/worker.py")


def test_a_registered_loss_gets_what_we_read():
    from verl.trainer.ppo import core_algos
    from verl.workers.config import FSDPActorConfig, PolicyLossConfig
    from verl.workers.utils.losses import ppo_loss

    seen = {}

    def loss(**arguments):
        seen.update(arguments)
        return arguments["log_prob"].sum() * 0, {}

    core_algos.register_policy_loss("contract")(loss)
    core_algos.register_policy_loss("contract")(loss)
    policy = PolicyLossConfig(loss_mode="contract")
    sizes = {"rollout_n": 1, "ppo_micro_batch_size_per_gpu": 1, "ppo_mini_batch_size": 2}
    config = FSDPActorConfig(strategy="fsdp2", policy_loss=policy, **sizes)
    data, nested = micro_batch()
    ppo_loss(config, {"log_probs": nested}, data)
    core_algos.POLICY_LOSS_REGISTRY.pop("contract")
    expected = ["advantages", "config", "log_prob", "loss_agg_mode", "old_log_prob", "response_mask"]
    must(
        sorted(seen) == [*expected, "rollout_is_weights"], f"a policy loss is given {sorted(seen)}", f"{HOST}/losses.py"
    )
    info = {name: config.global_batch_info[name] for name in ("dp_size", "batch_num_tokens", "global_batch_size")}
    must(info == {"dp_size": 1, "batch_num_tokens": 6, "global_batch_size": 2}, f"it gets {info}", f"{HOST}/losses.py")
    must(seen["response_mask"].dtype == torch.bool, "the mask is no longer boolean", f"{HOST}/losses.py")


def test_sums_are_summed_over_micro_batches_and_averaged_over_ranks():
    from verl.utils.metric import AggregationType, Metric

    one, two = (Metric(value=torch.tensor(value), aggregation=AggregationType.SUM) for value in (0.25, 0.5))
    one.append(0.25)
    two.append(0.5)
    got = Metric.aggregate_dp([one, two])
    must(got == 0.75, f"Metric(SUM) over 2 micro-batches and 2 ranks gives {got}, not 0.75", f"{HOST}/worker.py")


def test_estimators_may_be_registered_twice():
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, register_adv_est

    def estimator(**arguments):
        return None

    for _ in range(2):
        register_adv_est("contract")(estimator)
    must(ADV_ESTIMATOR_REGISTRY.pop("contract") is estimator, "the registry is kept elsewhere", f"{HOST}/estimators.py")


def test_verls_own_objectives_are_never_replaced():
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    for name in ("vanilla", "clip_cov", "kl_cov", "gspo"):
        module = get_policy_loss_fn(name).__module__
        must(module == "verl.trainer.ppo.core_algos", f"policy loss {name} is {module}'s", f"{HOST}/losses.py")


def test_every_mode_that_we_wrap_compares_its_own_name():
    """We set trainer_mode back to the base's name, because verl compares it; were it to stop, we need not."""
    code = source(BASE, f"{HOST}/trainer.py")
    times = len(re.findall(r'trainer_mode (?:==|!=) "(?:sync|colocate_async|separate_async)"', code))
    must(times >= 1, "trainer_base.py no longer compares trainer_mode", f"{HOST}/trainer.py")


def test_the_replay_buffers_poll_can_be_set():
    """Ray wraps the class; its source tells."""
    code = source("verl.trainer.ppo.v1.replay_buffer", f"{HOST}/cpu/replay.py")
    must("poll_interval: float" in code, "ReplayBuffer takes no poll_interval", f"{HOST}/cpu/replay.py")


def test_a_verl_outside_the_range_is_refused_by_name_and_one_inside_is_not():
    from packaging.version import Version

    low, high = map(Version, plugin.SUPPORTED)
    inside = low <= Version(verl.__version__) < high
    complaint = plugin.unsupported()
    assert (complaint is None) == inside
    if not inside:
        from entropo_plugin.hosts.verl.startup import guard

        assert f"verl {verl.__version__} is installed, entropo_plugin supports verl>={low},<{high}" in complaint
        with pytest.raises(ConfigError, match=f"verl {verl.__version__} is installed"):
            guard.check_start(OmegaConf.create({"algorithm": {"adv_estimator": "repo_r"}}))
