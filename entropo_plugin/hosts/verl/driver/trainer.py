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
from entropo_plugin.hosts.verl.driver.batch_cache import Overheard
from entropo_plugin.hosts.verl.driver.shaping import mini_batches, preview, select_tokens, shape_advantages
from entropo_plugin.hosts.verl.metrics.health import Alarms
from entropo_plugin.hosts.verl.metrics.step import entropy_sum, measure, step_tokens, validation_score, with_responses
from entropo_plugin.hosts.verl.metrics.stopwatch import Stopwatch
from entropo_plugin.hosts.verl.metrics.token_log import token_file, token_lines
from entropo_plugin.hosts.verl.run import Run
from entropo_plugin.hosts.verl.startup.plan import Plan
from entropo_plugin.hosts.verl.worker.loss import PAYLOAD, SELECTED, entropo_loss
from entropo_plugin.monitor import dynamics_metrics

if TYPE_CHECKING:
    from verl.trainer.ppo.v1 import PPOTrainer as Host
else:
    Host = object


class EntropoTrainer(Host):
    """Mixin over a verl V1 ``PPOTrainer``: observes entropy, shapes advantages, steers, saves and restores."""

    base_mode = ""
    _hooked = False

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
        self.entropo = Run(Plan.from_config(config))
        self.heard, self.watch = Overheard(), Stopwatch()
        self.token_file = token_file(config, self.entropo.plan.settings.monitor)

    def _setup(self) -> None:
        super()._setup()
        actor = omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
        self.actor_rollout_wg.set_loss_fn(partial(entropo_loss, config=actor))
        self.alarms = Alarms(len(self.tokenizer), self.entropo.plan.settings.idle_steps)

    def _compute_old_log_prob(self, batch: Any, metrics: dict) -> Any:
        batch = super()._compute_old_log_prob(batch, metrics)
        if self.heard.holds(batch.keys, "entropy"):
            with self.watch:
                self.entropo.observe(*entropy_sum(self.heard, batch))
        return batch

    def _compute_advantage(self, batch: Any, metrics: dict) -> Any:
        plan = self.entropo.plan
        with estimators.batch(plan.settings.repo, batch.keys):
            batch = super()._compute_advantage(batch, metrics)
        if self.config.trainer.critic_warmup > self.global_steps:
            return batch  # verl does not update the actor yet
        selected = None
        if plan.selects:
            batch, selected = self._select_tokens(batch, metrics)
        if plan.shapes_on_driver:
            batch = self._shape_batch(batch, metrics)
        return self._drop_tokens(batch, selected) if selected is not None and plan.drops else batch

    def _select_tokens(self, batch: Any, metrics: dict) -> tuple[Any, torch.Tensor]:
        """Clip-Cov's and KL-Cov's tokens, once over the whole batch; the workers get one boolean per token."""
        nested = self.heard.get(batch, ["advantages", "old_log_probs", "response_mask"])
        parts = self._mini_batches(batch) if self.entropo.plan.scope == "mini_batch" else None
        selected, found = select_tokens(nested.to_padded_tensor(), batch.keys, self.entropo, self.global_steps, parts)
        metrics.update(found)
        return _put(batch, SELECTED, selected, nested["response_mask"]), selected

    def _mini_batches(self, batch: Any) -> list[torch.Tensor]:
        """Rows of each optimizer step; verl's trainer gives every rank an equal block (trainer_base.py:1625)."""
        actor = self.config.actor_rollout_ref
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        return mini_batches(len(batch), ranks, actor.actor.ppo_mini_batch_size * actor.rollout.n)

    def _drop_tokens(self, batch: Any, selected: torch.Tensor) -> Any:
        """Clip-Cov on another loss: without an advantage a token has neither loss nor gradient."""
        nested = self.heard.get(batch, ["advantages", "response_mask"])
        kept = nested["advantages"].to_padded_tensor(0.0).masked_fill(selected, 0.0)
        return _put(batch, "advantages", kept, nested["response_mask"])

    def _shape_batch(self, batch: Any, metrics: dict) -> Any:
        """Modify the whole batch's advantages once, from pi_old's log-probs and entropies."""
        nested = self.heard.get(batch, SHAPED_FROM)
        data = nested.to_padded_tensor()
        shaped = shape_advantages(data, self.entropo, metrics)
        metrics["entropo/shift"] = _mean((shaped - data["advantages"]).abs(), data["response_mask"])
        return _put(batch, "advantages", shaped, nested["response_mask"])

    def _update_actor(self, batch: Any, metrics: dict) -> Any:
        batch.extra_info[PAYLOAD] = self.entropo.payload()
        batch = super()._update_actor(batch, metrics)
        self.entropo.updated = True
        for name in [name for name in metrics if name.startswith("actor/entropo/")]:
            metrics[name.removeprefix("actor/")] = metrics.pop(name)
        return batch

    def step(self, metrics: dict, timing_raw: dict) -> Any:
        self.heard.clear()
        with self.heard.listening():
            batch = super().step(metrics, timing_raw)
        with self.watch:
            self.tokens = preview(step_tokens(self.heard, batch), self.entropo)
            metrics.update(dynamics_metrics(self.tokens))
            metrics.update(self.entropo.end_step(self.global_steps, metrics.get("entropo/dynamics/predicted")))
        self.entropo.report_idle(metrics)
        return batch

    def _compute_metrics(self, batch: Any, metrics: dict, *args: Any, **kwargs: Any) -> None:
        # verl fetches the token ids here, and only here
        with self.heard.listening():
            super()._compute_metrics(batch, metrics, *args, **kwargs)
        with self.watch:
            for name, value in self._measure(batch).items():
                metrics.setdefault(name, value)
            metrics.update(self.entropo.observe_score(validation_score(metrics)))
        metrics["entropo/monitor/seconds"] = self.watch.reset()
        self.alarms.look(self.global_steps, metrics)

    def _measure(self, batch: Any) -> dict[str, float]:
        """Exact statistics of the step, before verl clears its fields; the tokens' side file is written here too."""
        end, limit = self.tokenizer.eos_token_id, self.config.data.max_response_length
        tokens = with_responses(self.tokens, self.heard, batch, limit, end)
        metrics, warning = measure(tokens, self.config.actor_rollout_ref.actor)
        self.entropo.warn_once(warning)
        if self.token_file is not None:
            wanted = self.entropo.plan.settings.monitor.tokens
            self.token_file.write(self.global_steps, token_lines(tokens, wanted, self.global_steps, self.tokenizer))
        self.heard.clear()
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


SHAPED_FROM = ["advantages", "old_log_probs", "entropy", "response_mask"]


def _put(batch: Any, name: str, padded: torch.Tensor, mask: torch.Tensor) -> Any:
    """Write one ``(batch, response)`` field back, jagged like the response mask; returns verl's new metadata."""
    fields = TensorDict({name: response_to_nested(padded, mask)}, batch_size=len(batch))
    return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def _mean(values: torch.Tensor, mask: torch.Tensor) -> float:
    mask = mask.bool() & values.isfinite()
    return float(values[mask].double().mean()) if mask.any() else 0.0


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
