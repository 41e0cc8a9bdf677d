"""Our trainer modes: verl's V1 trainers with one mixin of short overrides that call verl's own methods."""

from __future__ import annotations

import os
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.padding import response_to_nested

from entropo_plugin.hosts.verl.checkpoint import StateCallback, restore, resumed_folder, save_state
from entropo_plugin.hosts.verl.compat import checkpoint_hooks, fix_separate_async
from entropo_plugin.hosts.verl.driver import estimators
from entropo_plugin.hosts.verl.driver.batch_cache import BatchCache
from entropo_plugin.hosts.verl.driver.broken_rewards import finite_advantages
from entropo_plugin.hosts.verl.driver.tokens import driver_tokens, mini_batches
from entropo_plugin.hosts.verl.metrics.health import Alarms
from entropo_plugin.hosts.verl.metrics.idle import Idle
from entropo_plugin.hosts.verl.metrics.run_file import write_run_file
from entropo_plugin.hosts.verl.metrics.step import (
    clip_bounds,
    context_limit,
    entropy_sum,
    measure,
    sampled,
    step_tokens,
    validation_score,
    with_responses,
)
from entropo_plugin.hosts.verl.metrics.stopwatch import Stopwatch
from entropo_plugin.hosts.verl.metrics.token_log import token_file, token_lines
from entropo_plugin.hosts.verl.startup.facts import vocabulary
from entropo_plugin.hosts.verl.startup.plan import Plan, get
from entropo_plugin.hosts.verl.worker.clip_shares import bounds_in_force
from entropo_plugin.hosts.verl.worker.loss import PAYLOAD, SELECTED, entropo_loss
from entropo_plugin.monitor import dynamics_metrics
from entropo_plugin.pipeline import Prepared, acts_on_driver, loss_owner, prepare_batch, preview
from entropo_plugin.run import Run

if TYPE_CHECKING:
    from verl.trainer.ppo.v1 import PPOTrainer as Host
else:
    Host = object


class EntropoTrainer(Host):
    """Mixin over a verl V1 ``PPOTrainer``: observes entropy, shapes advantages, steers, saves and restores."""

    base_mode = ""
    _hooked = False
    payload: dict[str, Any]

    def __init__(self, config: Any):
        self.prepare(config)
        # verl compares the mode's name with its own in six places (trainer_base.py:153 and on)
        config.trainer.v1.trainer_mode = self.base_mode
        super().__init__(config)
        self.clip_high_ctrl = None  # verl's own ADAPO (patches/0006) does not move its bound beside ours
        self._join_checkpoint_events()

    def _join_checkpoint_events(self) -> None:
        """Save and restore through verl's events where it has them, instead of around its methods."""
        self._hooked = checkpoint_hooks()
        if self._hooked:
            self.checkpoint_callback = StateCallback(self.checkpoint_callback, self.entropo)  # type: ignore[assignment]

    def prepare(self, config: Any) -> None:
        """Everything of ours that needs the configuration alone."""
        self.plan = Plan.from_config(config)
        self.entropo = Run(self.plan.methods, self.plan.settings)
        self.cache, self.watch = BatchCache(), Stopwatch()
        self.clip: dict[str, Any] | None = None
        self.idle = Idle(self.plan.methods, self.plan.settings.idle_steps)
        self.token_file = token_file(config, self.plan.settings.monitor)

    def _setup(self) -> None:
        super()._setup()
        actor = omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
        self.actor_rollout_wg.set_loss_fn(partial(entropo_loss, config=actor, methods=self.plan.methods))
        self.entropo.loop.know_vocabulary(vocabulary(self.config, get) or len(self.tokenizer))
        keys = {name: each.key for name, each in self.entropo.loop.coefficients.items()}
        samples = self.config.actor_rollout_ref.rollout.n
        self.alarms = Alarms(len(self.tokenizer), self.plan.settings.idle_steps, samples, keys)
        write_run_file(self.config, self.plan)

    def _compute_advantage(self, batch: Any, metrics: dict) -> Any:
        compute, choice = super()._compute_advantage, self.plan.settings.nan_reward
        with estimators.batch(self._baseline(), batch.keys):
            batch = finite_advantages(compute, batch, metrics, self.cache, choice, self.global_steps)
        with self.watch:
            self._observe(batch)
        # verl does not update the actor while the critic warms up
        if self.config.trainer.critic_warmup > self.global_steps or not acts_on_driver(self.plan.methods):
            return batch
        return self._prepare_batch(batch, metrics)

    def _baseline(self) -> Any:
        """The method whose advantage estimator runs, or None."""
        name = self.config.algorithm.adv_estimator
        return next((method for method in self.plan.methods if method.estimator == name), None)

    def _observe(self, batch: Any) -> None:
        """The entropy that control follows, over the tokens of every other statistic: rejection lies behind us."""
        if self.cache.holds(batch.keys, "entropy"):
            self.entropo.loop.observe(*entropy_sum(self.cache, batch))

    def _prepare_batch(self, batch: Any, metrics: dict) -> Any:
        """The driver's part of the pipeline; what workers need is put beside their rows."""
        tokens, mask = driver_tokens(self.cache, batch, self.global_steps, self._mini_batches(batch))
        prepared = prepare_batch(self.entropo, tokens)
        metrics.update(prepared.metrics)
        for name, padded in self._to_ship(prepared).items():
            batch = _put(batch, name, padded, mask)
        return batch

    def _to_ship(self, prepared: Prepared) -> dict[str, torch.Tensor]:
        """The fields that the driver's part changed or made, by their name in TransferQueue."""
        fields = {"advantages": prepared.advantage} if prepared.shaped else {}
        late = any(method.shapes == "worker" for method in self.plan.methods)
        for method in self.plan.methods:
            needed = method.owns_loss or method.penalises or (method.drops and late)
            if needed and method.name in prepared.selected:
                fields[f"{SELECTED}{method.name}"] = prepared.selected[method.name]
        return fields

    def _mini_batches(self, batch: Any) -> list[torch.Tensor] | None:
        """Rows of each optimizer step; verl's trainer gives every rank an equal block (trainer_base.py:1625)."""
        if not any(method.selects == "mini_batch" for method in self.plan.methods):
            return None
        actor = self.config.actor_rollout_ref
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        return mini_batches(len(batch), ranks, actor.actor.ppo_mini_batch_size * actor.rollout.n)

    def _update_actor(self, batch: Any, metrics: dict) -> Any:
        batch.extra_info[PAYLOAD] = coefficients = self.entropo.coefficients()
        owner = loss_owner(self.plan.methods)
        self.clip = None if owner is None else owner.clip_bounds(coefficients[owner.name])
        batch = super()._update_actor(batch, metrics)
        self.entropo.loop.updated = True
        for name in [name for name in metrics if name.startswith("actor/entropo/")]:
            metrics[name.removeprefix("actor/")] = metrics.pop(name)
        return batch

    def step(self, metrics: dict, timing_raw: dict) -> Any:
        self.cache.clear()
        with self.cache.listening():
            batch = super().step(metrics, timing_raw)
        with self.watch:
            self.tokens = preview(step_tokens(self.cache, batch), self.entropo)
            metrics.update(dynamics_metrics(self.tokens))
            metrics.update(self.entropo.end_step(self.global_steps, metrics.get("entropo/dynamics/predicted")))
        self.idle.report(metrics)
        return batch

    def _compute_metrics(self, batch: Any, metrics: dict, *args: Any, **kwargs: Any) -> None:
        # verl fetches the token ids here, and only here
        with self.cache.listening():
            super()._compute_metrics(batch, metrics, *args, **kwargs)
        with self.watch:
            for name, value in self._measure(batch, metrics).items():
                metrics.setdefault(name, value)
            metrics.update(self.entropo.observe_score(validation_score(metrics)))
        metrics["entropo/monitor/seconds"] = self.watch.reset()
        self.alarms.look(self.global_steps, metrics)

    def _clip(self, actor: Any) -> tuple[float, float] | None:
        """Clip bounds of the policy loss in force in this step."""
        if self.clip is None:
            return clip_bounds(actor)
        bounds = bounds_in_force(actor, self.clip)
        return None if bounds is None else (bounds["low"], bounds["high"])

    def _measure(self, batch: Any, logged: dict) -> dict[str, float]:
        """Exact statistics of the step, before verl clears its fields; the tokens' side file is written here too."""
        end, limit = self.tokenizer.eos_token_id, self.config.data.max_response_length
        context = context_limit(self.config.actor_rollout_ref.rollout)
        tokens = with_responses(self.tokens, self.cache, batch, limit, end, context)
        actor = self.config.actor_rollout_ref.actor
        metrics, warning = measure(tokens, actor, self._clip(actor), sampled(self.config, logged))
        self.entropo.warn_once("precision", warning)
        if self.token_file is not None:
            wanted = self.plan.settings.monitor.tokens
            self.token_file.write(self.global_steps, token_lines(tokens, wanted, self.global_steps, self.tokenizer))
        self.cache.clear()
        return metrics

    def _save_checkpoint(self) -> None:
        # before verl writes its marker: a checkpoint that can be resumed from always has our state
        if not self._hooked:
            folder = os.path.join(self.config.trainer.default_local_dir, f"global_step_{self.global_steps}")
            save_state(folder, self.entropo.state_dict(self.global_steps))
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        folder = resumed_folder(self.config) if self.global_steps and not self._hooked else None
        if folder:
            restore(self.entropo, folder)


def _put(batch: Any, name: str, padded: torch.Tensor, mask: torch.Tensor) -> Any:
    """Write one ``(batch, response)`` field back, jagged like the response mask; returns verl's new metadata."""
    fields = TensorDict({name: response_to_nested(padded, mask)}, batch_size=len(batch))
    return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def register_trainers(v1: ModuleType) -> None:
    """Register ``entropo_<mode>`` for each of verl's V1 trainers; registering again changes nothing."""
    fix_separate_async(v1.trainer_separate_async)
    for mode, base in (
        ("sync", v1.PPOTrainerSync),
        ("colocate_async", v1.PPOTrainerColocateAsync),
        ("separate_async", v1.PPOTrainerSeparateAsync),
    ):
        registry = v1.trainer_base.TRAINER_REGISTRY
        if f"entropo_{mode}" not in registry:
            cls = type(f"Entropo{base.__name__}", (EntropoTrainer, base), {"base_mode": mode})
            v1.register_trainer(f"entropo_{mode}")(cls)
