"""Every whole recipe against verl's own schema, checks and trainers, without weights, data or GPUs."""

import copy
import dataclasses
import functools
import re
import shlex

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from verl.trainer.main_ppo import need_critic, need_reference_policy, validate_config
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import HFModelConfig

from entropo_plugin.cli import main
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.hosts.verl.startup.plan import Plan
from entropo_plugin.recipe_files import FACTS, WHOLE, find, folder, recipes

RECIPES = {recipe.name: recipe for recipe in recipes()}
SCALE = [name for name in RECIPES if not name.startswith("cpu/")]
every = pytest.mark.parametrize("name", RECIPES)
at_scale = pytest.mark.parametrize("name", SCALE)

# layers, attention heads, key-value heads: the config.json of each model on the hub
MODELS = {
    "Qwen/Qwen2.5-7B": (28, 28, 4),
    "Qwen/Qwen2.5-32B": (64, 40, 8),
    "Qwen/Qwen3-8B": (36, 32, 8),
    "Qwen/Qwen3-32B": (64, 64, 8),
}


def config_of(name, *more):
    return copy.deepcopy(composed(name, *more))


@functools.cache
def composed(name, *more):
    """The configuration that the printed command composes; the user's files and model are names only."""
    words = shlex.split(RECIPES[name].command.replace("\\\n", " "))
    primary = words[words.index("--config-name") + 1] if "--config-name" in words else "ppo_trainer"
    return compose(primary, [word for word in words[3:] if "=" in word] + list(more))


def gpus(config, rollout=False):
    where = config.actor_rollout_ref.rollout if rollout else config.trainer
    return where.nnodes * where.n_gpus_per_node


def ranks(config):
    """Data-parallel ranks of the trainer."""
    actor = config.actor_rollout_ref.actor
    if actor.strategy != "megatron":
        return gpus(config)
    return gpus(config) // (actor.megatron.tensor_model_parallel_size * actor.megatron.pipeline_model_parallel_size)


def test_every_room_has_recipes_and_every_variant_is_there():
    assert {name.split("/")[0] for name in RECIPES} == set(WHOLE)
    for part in ("megatron", "lora", "separate_async"):
        assert any(name.endswith(part) for name in RECIPES), part


@every
def test_the_head_says_what_it_needs(name):
    recipe = RECIPES[name]
    assert set(recipe.facts) == set(FACTS) and recipe.about.endswith(".")


@every
def test_verl_accepts_it(name, capsys):
    config = config_of(name)
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert "All configuration checks passed" in capsys.readouterr().out


@every
def test_verl_s_dataclasses_can_be_made_of_it(name):
    config = config_of(name)
    OmegaConf.resolve(config)
    parts = [config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, as_worker_reads_it(config)]
    for node in (*parts, config.algorithm, config.critic.optim, config.trainer.v1.separate_async.hybrid_rollout):
        omega_conf_to_dataclass(node)
    # HFModelConfig itself reads the model's files; its keys can be checked without
    known = {field.name for field in dataclasses.fields(HFModelConfig)} | {"_target_"}
    assert set(config.actor_rollout_ref.model) <= known


def as_worker_reads_it(config):
    """The reference model's node with the names that verl's worker gives its keys (engine_workers.py:545)."""
    ref = OmegaConf.create(OmegaConf.to_container(config.actor_rollout_ref.ref))
    ref.ppo_mini_batch_size = config.actor_rollout_ref.actor.ppo_mini_batch_size
    ref.use_dynamic_bsz = ref.pop("log_prob_use_dynamic_bsz")
    ref.ppo_max_token_len_per_gpu = ref.pop("log_prob_max_token_len_per_gpu")
    for end in ("", "_per_gpu"):
        ref[f"ppo_micro_batch_size{end}"] = ref.pop(f"log_prob_micro_batch_size{end}")
    return ref


@every
def test_we_accept_it_without_a_warning(name):
    config = config_of(name)
    plan = Plan.from_config(config)
    assert plan.warnings(config) == []


@every
def test_verl_s_trainer_can_be_made_of_it(name):
    from verl.trainer.ppo.v1 import get_trainer_cls

    config = config_of(name)
    OmegaConf.resolve(config)
    mode = config.trainer.v1.trainer_mode
    assert mode.startswith("entropo_")
    trainer = get_trainer_cls(mode)(config=config)
    assert trainer.trainer_mode == mode.removeprefix("entropo_")
    assert not trainer.use_critic and not trainer.use_reference_policy


@at_scale
def test_the_head_tells_the_truth(name):
    recipe, config = RECIPES[name], config_of(name)
    apart = config.actor_rollout_ref.hybrid_engine is False
    total = gpus(config) + (gpus(config, rollout=True) if apart else 0)
    assert int(recipe.facts["gpus"].split()[0]) == total
    assert recipe.facts["model"] == config.actor_rollout_ref.model.path
    assert (recipe.facts["config"] == "ppo_megatron_trainer") == (config.actor_rollout_ref.actor.strategy == "megatron")
    assert "never run" in recipe.facts["tested"]


@at_scale
def test_the_batch_divides_among_the_gpus(name):
    config = config_of(name)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert config.data.train_batch_size % actor.ppo_mini_batch_size == 0
    assert actor.ppo_mini_batch_size * rollout.n % ranks(config) == 0
    assert actor.ppo_max_token_len_per_gpu >= config.data.max_prompt_length + config.data.max_response_length


@at_scale
def test_the_model_divides_among_the_gpus(name):
    config = config_of(name)
    layers, heads, pairs = MODELS[config.actor_rollout_ref.model.path]
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    ways = [rollout.tensor_model_parallel_size]
    assert gpus(config, rollout=config.actor_rollout_ref.hybrid_engine is False) % ways[0] == 0
    if actor.strategy == "megatron":
        ways.append(actor.megatron.tensor_model_parallel_size)
        assert layers % actor.megatron.pipeline_model_parallel_size == 0
    assert all(heads % way == 0 and pairs % way == 0 for way in ways)


@pytest.mark.parametrize("room", ["7b", "32b"])
@pytest.mark.parametrize("method", ["grpo", "clip_cov", "kl_cov"])
def test_em_s_numbers(room, method):
    config = config_of(f"{room}/qwen2_5_{method}")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (config.data.train_batch_size, rollout.n, rollout.temperature) == (256, 8, 1.0)
    assert config.data.train_batch_size // actor.ppo_mini_batch_size * actor.ppo_epochs == 8
    assert config.data.max_response_length == 8192
    assert actor.optim.lr == {"7b": 5e-7, "32b": 1e-6}[room]
    assert config.algorithm.adv_estimator == "grpo" and not actor.use_kl_loss
    settings = Plan.from_config(config).settings
    if method == "kl_cov":
        assert (settings.kl_cov.ratio, settings.kl_cov.beta) == ({"7b": 2e-3, "32b": 2e-4}[room], 1.0)
    if method == "clip_cov":
        cov = settings.clip_cov
        assert (cov.ratio, cov.low, cov.high, cov.clip_low, cov.clip_high) == (2e-4, 1.0, 5.0, 1.0, 1.0)


def test_engines_change_nothing_of_what_is_learnt():
    """The Megatron variant differs from its FSDP twin in engine and placement only."""
    for room in ("7b", "32b"):
        one, other = (config_of(f"{room}/qwen2_5_kl_cov{end}") for end in ("", "_megatron"))
        for path in ("algorithm", "data", "entropo", "actor_rollout_ref.actor.policy_loss", "trainer.v1"):
            assert OmegaConf.select(one, path) == OmegaConf.select(other, path), path
        for key in ("optim.lr", "optim.weight_decay", "ppo_mini_batch_size", "clip_ratio_c", "loss_agg_mode"):
            here, there = (OmegaConf.select(c.actor_rollout_ref.actor, key) for c in (one, other))
            assert here == there, key


def test_loop_s_numbers():
    config = config_of("32b/qwen3_repo_r_lora")
    actor, model = config.actor_rollout_ref.actor, config.actor_rollout_ref.model
    assert (model.lora_rank, model.lora_alpha, actor.optim.lr, actor.ppo_epochs) == (16, 32, 5e-5, 2)
    assert 1 - actor.clip_ratio_low == pytest.approx(1 / 1.1, abs=1e-4) and actor.clip_ratio_high == 0.1
    assert Plan.from_config(config).settings.repo.min_advantage == 0.01


@at_scale
def test_any_key_can_still_be_changed(name):
    config = config_of(
        name,
        "actor_rollout_ref.actor.optim.lr=3e-6",
        "trainer.nnodes=2",
        "entropo.idle_steps=50",
        "actor_rollout_ref.model.path=/models/mine",
    )
    assert config.actor_rollout_ref.actor.optim.lr == 3e-6
    assert config.trainer.nnodes == 2 and config.actor_rollout_ref.model.path == "/models/mine"
    assert Plan.from_config(config).settings.idle_steps == 50


def test_the_method_can_be_changed():
    config = config_of("7b/qwen2_5_kl_cov", "entropo=repo_r")
    assert config.algorithm.adv_estimator == "repo_r"
    assert [method.name for method in Plan.from_config(config).methods] == ["repo_r"]
    config = config_of("8b/qwen3_repo_r", "entropo=repo_d")
    (method,) = Plan.from_config(config).methods
    assert (method.name, method.zeta_bounds) == ("repo_d", (1e-3, 10.0))
    config = config_of("8b/qwen3_repo_r_separate_async", "entropo=adapo")
    assert (config.algorithm.adv_estimator, config.trainer.v1.trainer_mode) == ("grpo", "entropo_separate_async")


LAWS = {
    "repo_r": ("entropo.repo.zeta.law", "fixed", "matched", "pi"),
    "adapo": ("entropo.adapo.clip_high.law", "fixed"),
}


@at_scale
def test_another_law_is_one_key(name):
    """Nothing that the recipe sets is left without a reader, which the user could not delete."""
    for method in Plan.from_config(composed(name)).methods:
        key, *laws = LAWS.get(method.name, ("",))
        for law in laws:
            (same,) = Plan.from_config(config_of(name, f"{key}={law}")).methods
            assert same.name == method.name


def test_several_nodes_join_the_cluster_that_is_up():
    assert config_of("32b/qwen2_5_kl_cov").ray_kwargs.ray_init.address == "auto"
    assert "address" not in config_of("7b/qwen2_5_kl_cov").ray_kwargs.ray_init


@pytest.mark.parametrize("path", sorted(folder().glob("recipe_parts/*.yaml")) + sorted(folder().glob("[0-9]*b/*.yaml")))
def test_every_number_says_where_it_comes_from(path):
    """A number's own comment, or the nearest one above it in its block, names a paper, a script, verl or us."""
    named = re.compile(r"\b(paper|script|verl|arXiv|ml-loop|SkyRL|DAPO|ours)\b", re.IGNORECASE)
    comment = ""
    for line in path.read_text().splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment = text
        elif re.search(r":\s*-?[\d.]", text) and not re.match(r"(nnodes|n_gpus_per_node|penalty)", text):
            assert named.search(comment), (path.name, text, comment)


def test_the_command_prints_one_recipe(capsys):
    assert main(["recipes", "32b/qwen2_5_kl_cov_megatron"]) == 0
    out = capsys.readouterr().out
    assert "gpus:    32 (4 nodes of 8)" in out and "never run" in out
    assert (
        "python -m verl.trainer.main_ppo --config-name ppo_megatron_trainer \\\n"
        "  +recipes=32b/qwen2_5_kl_cov_megatron \\\n"
        "  data.train_files=TRAIN.parquet data.val_files=TEST.parquet\n"
    ) in out


def test_an_unknown_recipe_is_refused_with_the_names(capsys):
    assert main(["recipes", "7b/nothing"]) == 2
    message = capsys.readouterr().err
    assert "no recipe '7b/nothing'" in message and "7b/qwen2_5_kl_cov" in message
    with pytest.raises(LookupError):
        find("8b")


def test_the_wrong_primary_config_is_noticed():
    with pytest.raises(InstantiationException, match="unexpected keyword argument .megatron."):
        config = compose("ppo_trainer", ["+recipes=7b/qwen2_5_kl_cov_megatron"])
        validate_config(config, need_reference_policy(config), need_critic(config))
