"""verl's own keys: what verl accepts passes, what it would trip over later is refused by name."""

import math

import pytest
import transfer_queue
from omegaconf import OmegaConf, open_dict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size

from entropo_plugin.fields import ConfigError
from entropo_plugin.hosts.verl.startup.combinations import check_combination
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.hosts.verl.startup.plan import Plan, get
from entropo_plugin.hosts.verl.startup.verl_keys import check, updates_per_batch

ACTOR = "actor_rollout_ref.actor"


@pytest.fixture(scope="module")
def composed():
    return compose("ppo_trainer", ["+entropo=repo_r"])


@pytest.fixture
def checked(composed):
    """Checks verl's keys with some of them set to other values."""

    def run(**values):
        config = OmegaConf.create(composed)
        with open_dict(config):
            for name, value in values.items():
                OmegaConf.update(config, name.replace("__", "."), value)
        check(config, get)
        return config

    return run


@pytest.mark.parametrize(
    "values",
    [
        {"trainer__experiment_name": 20261125},
        {"trainer__project_name": 2026, "trainer__logger": ["console", "wandb"]},
        {"trainer__use_v1": 1},
        {f"{ACTOR}.shuffle": 0},
        {f"{ACTOR}.clip_ratio_high": math.inf},
        {f"{ACTOR}.clip_ratio": None},
        {f"{ACTOR}.entropy_coeff": 0},
        {"trainer__critic_warmup": -1},
        {"trainer__critic_warmup": 10.0},
        {"trainer__default_local_dir": None, "trainer__resume_mode": "disable"},
        {"trainer__resume_mode": "resume_path", "trainer__resume_from_path": "/runs/global_step_3"},
    ],
    ids=str,
)
def test_what_verl_accepts_passes(values, checked):
    checked(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainer__use_v1": 2}, "trainer.use_v1=2: expected true or false"),
        ({f"{ACTOR}.shuffle": "false"}, "shuffle='false': expected true or false"),
        ({f"{ACTOR}.clip_ratio_high": math.nan}, "clip_ratio_high=nan: expected a number"),
        ({f"{ACTOR}.entropy_coeff": math.inf}, "entropy_coeff=inf: expected a finite number"),
        ({f"{ACTOR}.ppo_mini_batch_size": 60.0}, "ppo_mini_batch_size=60.0: expected a whole number"),
        ({"trainer__default_local_dir": 20261125}, "trainer.default_local_dir=20261125: expected a name"),
        ({"trainer__default_local_dir": None}, "trainer.default_local_dir is not set"),
        (
            {"trainer__default_local_dir": None, "trainer__resume_mode": "disable", "trainer__save_freq": 5},
            "trainer.default_local_dir is not set",
        ),
        (
            {"trainer__resume_mode": "resume_path", "trainer__resume_from_path": "/runs/global_step_3/"},
            "resume_from_path='/runs/global_step_3/': .* without a slash",
        ),
        (
            {"trainer__project_name": 2026, "trainer__logger": ["file"]},
            """trainer.project_name=2026 is no text, .* Set 'trainer.project_name="2026"'""",
        ),
        ({"trainer__logger": 5}, "trainer.logger=5: expected a name or a list of names"),
        ({"trainer__logger": [5]}, r"trainer.logger=\[5\]: expected a name or a list of names"),
        ({"actor_rollout_ref__rollout__n": "4"}, "rollout.n='4': expected a whole number, at least 1"),
        ({"actor_rollout_ref__actor__clip_ratio_c": "3"}, "clip_ratio_c='3': expected a number"),
        ({"trainer__project_name": None, "trainer__logger": "file"}, "trainer.project_name=None is no text"),
    ],
    ids=str,
)
def test_what_verl_would_trip_over_is_refused(values, message, checked):
    with pytest.raises(ConfigError, match=message):
        checked(**values)


def test_a_value_from_the_environment_is_shown_as_it_is_written(checked, monkeypatch):
    monkeypatch.setenv("PIN", "1234")
    for path, written in (
        ("trainer.resume_mode", "${oc.env:PIN}"),
        (f"{ACTOR}.policy_loss.loss_mode", "x${oc.env:PIN}"),
    ):
        with pytest.raises(ConfigError) as refused:
            checked(**{path: written})
        assert f"{path}={written}: " in str(refused.value) and "1234" not in str(refused.value)


def test_a_critic_switched_off_by_a_number(composed):
    config = OmegaConf.create(composed)
    config.algorithm.adv_estimator, config.critic.enable = "gae", 0
    with pytest.raises(ConfigError, match="critic.enable=false"):
        check_combination(config)


@pytest.mark.parametrize(
    ("prompts", "mini", "epochs", "critic", "steps"),
    [
        (100, 60, 1, None, 2),  # 100 prompts become 120
        (120, 60, 1, None, 2),
        (100, 60, 3, None, 6),
        (60, 60, 1, None, 1),
        (50, 60, 1, None, 1),  # verl allows it with dynamic batches
        (1024, 256, 1, None, 4),
        (100, 60, 1, 60, 2),
        (60, 60, 1, 40, 2),  # a multiple of 120: the second mini-batch holds padding
        (64, 16, 2, 64, 8),
    ],
)
def test_optimizer_steps_per_batch(prompts, mini, epochs, critic, steps):
    assert updates_per_batch(prompts, mini, epochs, critic) == steps


@pytest.mark.parametrize(("prompts", "mini"), [(100, 60), (60, 60), (7, 3)])
def test_it_is_verls_own_padding(prompts, mini, monkeypatch):
    """verl's function on a batch of that many responses, its store replaced."""
    import torch
    from verl.utils import tensordict_utils as tu

    responses = 2
    row = {name: torch.ones(1, 1, dtype=torch.int64) for name in ("prompts", "responses", "input_ids", "position_ids")}
    monkeypatch.setattr(transfer_queue, "kv_batch_get", lambda **_: tu.get_tensordict(row))
    monkeypatch.setattr(transfer_queue, "kv_batch_put", lambda **_: None)
    keys = [f"p{number}_0_0" for number in range(prompts * responses)]
    batch = KVBatchMeta(partition_id="train", keys=keys, tags=[{"seq_len": 2}] * len(keys))
    padded = upsample_batch_to_divisible_size(batch, mini * responses, 0)
    assert len(padded) // (mini * responses) == updates_per_batch(prompts, mini)


def test_kl_cov_with_a_batch_that_verl_pads_can_act():
    """One and two thirds mini-batches are two optimizer steps: no warning that the method cannot act."""
    sizes = ["data.train_batch_size=100", f"{ACTOR}.ppo_mini_batch_size=60"]
    config = compose("ppo_trainer", ["+entropo=kl_cov", "algorithm.adv_estimator=grpo", *sizes])
    assert not [sentence for sentence in Plan.from_config(config).warnings(config) if "one optimizer step" in sentence]
