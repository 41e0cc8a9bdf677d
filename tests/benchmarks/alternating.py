"""One training in which every step is another's: stock verl's, the monitor's, a method's. For step_cost.py alone.

verl imports this module in each of its processes (VERL_USE_EXTERNAL_MODULES). Before a step the trainer is given that
step's methods, with their state and loss, or is made stock again: our overrides then call verl's own methods. Between
two steps nothing else differs, neither process, nor machine, nor policy.
"""

import functools
import json
import os
import random
import time
from functools import partial

import psutil

from entropo_plugin import recipe_files
from entropo_plugin.hosts.verl.startup.import_hooks import after_import

# every method whose recipe fits stock GRPO; one with a pass of its own (a reference, an entropy gradient) costs that
METHODS = ("repo_r", "repo_d", "repo_neutral", "stare", "entropic", "entropy_range", "entropy_advantage")
METHODS += ("adapo", "clip_cov", "kl_cov", "ce_gppo", "unlikely_positive", "top_entropy")
ARMS = ("stock", "monitor", *METHODS, "stock again")
OUT = "ENTROPO_STEP_COST"


def seconds():
    """The clock, and the processor's seconds of every process of this machine."""
    spent = 0.0
    for each in psutil.process_iter(["cpu_times"]):
        spent += sum(each.info["cpu_times"][:2]) if each.info["cpu_times"] else 0.0
    return time.perf_counter(), spent


class Clock:
    """The seconds of our code on the driver: verl's own methods, which it calls, stop it."""

    def __init__(self):
        self.whose, self.own, self.since = ["verl"], 0.0, 0.0

    def within(self, whose, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            self.turn(), self.whose.append(whose)
            try:
                return function(*args, **kwargs)
            finally:
                self.turn(), self.whose.pop()

        return call

    def turn(self):
        now = time.perf_counter()
        self.own += (now - self.since) * (self.whose[-1] == "ours")
        self.since = now


CLOCK = Clock()


class Timed:
    """A loss that notes the seconds of each of its calls, in the worker."""

    def __init__(self, name, loss):
        self.name, self.loss = name, loss

    def __call__(self, *args, **kwargs):
        began = time.perf_counter()
        found = self.loss(*args, **kwargs)
        note("loss", self.name, time.perf_counter() - began)
        return found


def note(what, name, *seconds):
    with open(os.environ[OUT], "a") as file:
        file.write(json.dumps([what, name, *seconds]) + "\n")


class Alternating:
    """Whose step it is, and what each step took."""

    def __init__(self, trainer, own):
        from verl.utils.config import omega_conf_to_dataclass
        from verl.workers.utils.losses import ppo_loss

        from entropo_plugin.hosts.verl.worker.loss import entropo_loss

        self.arms, self.order, self.draw = {}, [], random.Random(0)
        for name in ARMS:
            config = changed(trainer.config, name)
            actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
            state = type("State", (), {})()
            own["prepare"](state, config)
            loss = partial(ppo_loss, config=actor)
            if not name.startswith("stock"):
                loss = partial(entropo_loss, config=actor, methods=state.plan.methods)
            self.arms[name] = vars(state), Timed(name, loss)

    def begin(self, trainer):
        self.order = self.order or self.draw.sample(ARMS, len(ARMS))
        self.name = self.order.pop()
        state, loss = self.arms[self.name]
        vars(trainer).update(state)
        trainer.actor_rollout_wg.set_loss_fn(loss)
        CLOCK.own = 0.0
        self.began = seconds()

    def end(self):
        took = [after - before for before, after in zip(self.began, seconds(), strict=True)]
        note("step", self.name, *took, CLOCK.own)


def changed(config, name):
    """The training's configuration with this arm's method."""
    from copy import deepcopy

    from omegaconf import OmegaConf, open_dict

    config = deepcopy(config)
    with open_dict(config):
        if name in METHODS:
            recipe = OmegaConf.load(recipe_files.folder() / "entropo" / f"{name}.yaml")
            config.merge_with({key: recipe[key] for key in ("entropo", "actor_rollout_ref")})
        OmegaConf.update(config, "trainer.v1.trainer_mode", "entropo_sync")
    return config


def install(v1):
    from entropo_plugin.hosts.verl.driver.batch_cache import BatchCache
    from entropo_plugin.hosts.verl.driver.trainer import EntropoTrainer

    names = ("_compute_advantage", "_update_actor", "step", "_compute_metrics")
    own = {name: getattr(EntropoTrainer, name) for name in (*names, "prepare", "_setup")}

    def either(name):
        ours = CLOCK.within("ours", own[name])

        def method(self, *args, **kwargs):
            if self.alternating.name.startswith("stock"):
                return getattr(super(EntropoTrainer, self), name)(*args, **kwargs)
            return ours(self, *args, **kwargs)

        return method

    for cls in v1.PPOTrainerSync.__mro__:
        for name in {*names} & {*vars(cls)}:
            setattr(cls, name, CLOCK.within("verl", vars(cls)[name]))
    BatchCache.take = CLOCK.within("ours", BatchCache.take)

    acting = {name: either(name) for name in names}

    def setup(self):
        own["_setup"](self)
        self.alternating = Alternating(self, own)

    def step(self, *args, **kwargs):
        self.alternating.begin(self)
        return acting["step"](self, *args, **kwargs)

    def compute_metrics(self, *args, **kwargs):
        acting["_compute_metrics"](self, *args, **kwargs)
        self.alternating.end()

    for name, method in {**acting, "_setup": setup, "step": step, "_compute_metrics": compute_metrics}.items():
        setattr(EntropoTrainer, name, method)


after_import("verl.trainer.ppo.v1", install)
