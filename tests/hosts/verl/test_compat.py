"""Where verl does by itself what we work around, our workaround steps aside; where it does not, we act."""

import inspect
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl import compat
from entropo_plugin.hosts.verl.checkpoint import NAME, StateCallback
from entropo_plugin.hosts.verl.driver import estimators
from entropo_plugin.hosts.verl.startup import combinations
from entropo_plugin.hosts.verl.startup.plan import concerns
from entropo_plugin.hosts.verl.worker import policy_losses as losses


def verls(token_level_rewards, old_log_probs, zeta=0.5):
    return "verl's"


def ours(token_level_rewards, index=None):
    return "ours"


def test_without_one_of_verls_own_ours_is_registered_as_it_is():
    assert compat.beside(ours, None, lambda: True) is ours
    assert compat.beside(ours, ours, lambda: True) is ours


def test_verls_own_stays_in_force_outside_our_trainer():
    inside = False
    choice = compat.beside(ours, verls, lambda: inside)
    # verl passes the inputs that a signature names, so it must see its own
    assert inspect.signature(choice) == inspect.signature(verls)
    assert choice(token_level_rewards=0, old_log_probs=0) == "verl's"
    inside = True
    assert choice(token_level_rewards=0, old_log_probs=0, zeta=1.0) == "ours"


def test_registering_again_does_not_nest():
    choice = compat.beside(ours, verls, lambda: False)
    assert compat.beside(ours, choice, lambda: False) is choice


@pytest.mark.parametrize("kind", ["estimator", "loss"])
def test_our_registries_step_aside(kind):
    core = SimpleNamespace(ADV_ESTIMATOR_REGISTRY={"repo_r": verls}, POLICY_LOSS_REGISTRY={"adapo": verls})
    core.register_policy_loss = lambda name: lambda function: core.POLICY_LOSS_REGISTRY.update({name: function})
    if kind == "estimator":
        estimators.register_estimators(core)
        found, other = core.ADV_ESTIMATOR_REGISTRY["repo_r"], core.ADV_ESTIMATOR_REGISTRY["repo_d"]
        assert other is estimators.base_advantage
    else:
        losses.register_losses(core)
        found, other = core.POLICY_LOSS_REGISTRY["adapo"], core.POLICY_LOSS_REGISTRY["entropo_kl_cov"]
        assert other is losses.method_loss
    assert found.verls_own is verls and found(0, 0) == "verl's"


class Users(CheckpointCallback):
    def __init__(self):
        self.events = []

    def on_save(self, **event):
        self.events.append("save")

    def on_before_save(self, **event):
        self.events.append("before")

    def on_load(self, **event):
        self.events.append("load")


def run_with(state):
    settings = SimpleNamespace(resume="strict")
    seen = []
    run = SimpleNamespace(
        plan=SimpleNamespace(settings=settings),
        state_dict=lambda step: {**state, "step": step},
        load_state_dict=lambda found, source, step: seen.append((found, step)),
    )
    return run, seen


def test_our_state_goes_through_verls_events_beside_the_users_callback(tmp_path):
    users, (run, seen) = Users(), run_with({"zeta": 0.5})
    callback = StateCallback(users, run)
    event = {"trainer": None, "global_step": 2, "checkpoint_dir": str(tmp_path / "global_step_2")}
    callback.on_before_save(**event)
    callback.on_save(**event, async_save=False)
    callback.on_load(**event)
    assert users.events == ["before", "save", "load"]
    assert seen == [({"zeta": 0.5, "step": 2}, 2)]


@pytest.mark.parametrize("hooked", [False, True])
def test_the_trainer_writes_its_state_once(hooked, tmp_path):
    from entropo_plugin.hosts.verl.driver.trainer import EntropoTrainer

    class Base:
        def _save_checkpoint(self):
            event = {"global_step": self.global_steps, "checkpoint_dir": str(tmp_path / "global_step_3")}
            self.checkpoint_callback.on_before_save(**event)

    trainer = object.__new__(type("Trainer", (EntropoTrainer, Base), {"_hooked": hooked}))
    trainer.config = SimpleNamespace(trainer=SimpleNamespace(default_local_dir=str(tmp_path)))
    trainer.global_steps, written = 3, []
    trainer.entropo = SimpleNamespace(state_dict=lambda step: written.append(step) or {"step": step})
    users = Users()
    trainer.checkpoint_callback = StateCallback(users, trainer.entropo) if hooked else users
    trainer._save_checkpoint()
    assert written == [3] and (tmp_path / "global_step_3" / NAME).exists()


@pytest.mark.parametrize(
    ("mode", "node", "expected"), [("sync", {}, False), ("entropo_sync", {}, True), ("sync", {"entropo": {}}, True)]
)
def test_a_run_that_names_verls_own_is_not_ours(mode, node, expected, monkeypatch):
    monkeypatch.setattr("entropo_plugin.hosts.verl.startup.plan.own_names", lambda: {"repo_r"})
    run = {"algorithm": {"adv_estimator": "repo_r"}, "trainer": {"v1": {"trainer_mode": mode}}}
    assert concerns(OmegaConf.create(run | node)) is expected


def test_a_refusal_ends_where_verl_feeds_the_estimator(monkeypatch):
    config = OmegaConf.create({"algorithm": {"adv_estimator": "remax"}})
    monkeypatch.setattr(combinations, "fed_estimators", set)
    with pytest.raises(ConfigError, match="remax needs reward_baselines"):
        combinations.check_combination(config)
    monkeypatch.setattr(combinations, "fed_estimators", lambda: {"remax"})
    combinations.check_combination(config)


@pytest.mark.parametrize(
    ("installed", "has", "changes"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_verl_changes_trls_value_head_only_where_trl_has_one(installed, has, changes, monkeypatch):
    module = SimpleNamespace(is_trl_available=lambda: installed)
    monkeypatch.setattr(compat, "has_value_head", lambda: has)
    compat.fix_value_head(module)
    compat.fix_value_head(module)
    assert module.is_trl_available() == changes


def test_beside_the_trl_that_is_installed_verl_does_not_end():
    """verl's module is patched right after its import, in every process that trains."""
    import verl.models.transformers.monkey_patch as module

    assert compat.looks_for_value_head(module) or module.is_trl_available() == compat.has_value_head()


def test_a_verl_that_looks_for_the_value_head_is_left_alone():
    module = SimpleNamespace()
    compat.fix_value_head(module)
    assert vars(module) == {}
