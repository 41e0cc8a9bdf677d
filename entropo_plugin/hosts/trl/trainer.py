"""TRL's GRPOTrainer with a mixin of short overrides that call TRL's own methods; no line of its loss is copied."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.health import Alarms
from entropo_plugin.hosts.idle import Idle
from entropo_plugin.hosts.run_file import write_description
from entropo_plugin.hosts.trl import loss as ours
from entropo_plugin.hosts.trl import rollout as batches
from entropo_plugin.hosts.trl import state
from entropo_plugin.hosts.trl.compat import check_host
from entropo_plugin.hosts.trl.facts import SETTINGS, generate_every, loss_type, makes_old_pass
from entropo_plugin.hosts.trl.metrics import step_metrics
from entropo_plugin.hosts.trl.plan import OVERRIDES, Plan
from entropo_plugin.hosts.trl.rollout import Caught, Rollout
from entropo_plugin.methods.base import Tokens
from entropo_plugin.monitor import dynamics_metrics
from entropo_plugin.pipeline import Prepared, acts_on_driver, loss_owner, overrides, prepare_batch, preview
from entropo_plugin.run import Run
from entropo_plugin.side_file import RUN

if TYPE_CHECKING:
    Host = GRPOTrainer
else:
    Host = object

logger = logging.getLogger("entropo_plugin")


class EntropoMixin(Host):
    """Mixin over ``GRPOTrainer`` or a subclass of it: observes entropy, shapes advantages, steers, saves and restores.

    Raises:
        ConfigError: the configuration's ``entropo`` is wrong or does not fit, or this TRL is not supported.
    """

    rollout: Rollout | None = None
    _caught: Caught | None = None
    _pending: dict[str, Any] | None = None
    _extra: Tensor | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        check_host(type(self))
        super().__init__(*args, **kwargs)
        self.plan = Plan.of(self.args)
        self.entropo = Run(self.plan.methods, self.plan.settings)
        self.entropo.loop.know_vocabulary(self.model.get_input_embeddings().num_embeddings)
        self.idle, self.alarms = self._watches()
        self.rollouts = 0
        self.loss_type = loss_type(self.args)
        self._move_scalars()
        if self.accelerator.is_main_process:
            self._introduce()

    def _watches(self) -> tuple[Idle, Alarms]:
        """What looks at every rollout batch's metrics and warns."""
        steps = self.plan.settings.idle_steps
        keys = {name: each.key for name, each in self.entropo.loop.coefficients.items()}
        alarms = Alarms(len(self._tokenizer), steps, self.args.num_generations, keys, SETTINGS)
        return Idle(self.plan.methods, steps), alarms

    def _introduce(self) -> None:
        """Say what is active, and write it down for the report."""
        logger.info("%s", self.plan.in_words())
        for words in self.plan.warnings:
            logger.warning("entropo_plugin: %s", words)
        path, config = Path(self.args.output_dir, RUN), self.args.to_dict()
        write_description(path, self.plan.methods, self.plan.in_words(), config)

    def _move_scalars(self) -> None:
        """TRL's scalars that a method moves, as they act now."""
        for name, value in overrides(self.plan.methods, self.entropo.coefficients()).items():
            if name not in OVERRIDES:
                raise ConfigError(f"entropo.methods: {name} is moved by a method, but TRL has no such setting.")
            setattr(self, OVERRIDES[name], value)
            self._entropy_bonus_enabled = True

    # The driver's part: once for each rollout batch, the same on every process.

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        self._caught = caught = Caught(old_pass=makes_old_pass(self.args))
        try:
            out = super()._generate_and_score_completions(inputs)
        finally:
            self._caught = None
        began = time.perf_counter()
        self._begin(out, caught)
        assert self.rollout is not None
        self.rollout.seconds += time.perf_counter() - began
        return out

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self._caught is not None:
            rewards = batches.finite_rewards(rewards, self.plan.settings.nan_reward, self.rollouts + 1)
            self._caught.rewards, self._caught.completions = rewards, completion_ids_list
        return rewards

    def _begin(self, out: dict[str, Any], caught: Caught) -> None:
        """Take a new rollout batch; what the loss needs of it goes beside TRL's own fields."""
        assert caught.rewards is not None
        self.rollouts += 1
        out[ours.ROW] = torch.arange(len(out["completion_mask"]), device=out["completion_mask"].device)
        self._score, self._unscored = (each.cpu() for each in batches.scores_of(caught.rewards, self.reward_weights))
        self._group = batches.groups_of(len(self._score), self.args.num_generations)
        if self.plan.baseline is not None:
            own = batches.base_advantages(self.plan.baseline, self._score, self._unscored, self._group)
            out["advantages"] = self._local(own).to(out["advantages"])
        ends = (*self.eos_token_ids, self._tokenizer.pad_token_id)
        self.rollout = Rollout(self.rollouts, batches.fields_of(out, caught, ends))
        if acts_on_driver(self.plan.methods):
            self._see_old_policy(out)
        if "log_prob" in self.rollout.local:
            self._prepare_batch(out)
        self.rollout.coefficients = self.entropo.coefficients()

    def _local(self, together: Tensor) -> Tensor:
        """This process's rows of a field of all processes."""
        size = len(together) // self.accelerator.num_processes
        return together[self.accelerator.process_index * size :][:size]

    def _see_old_policy(self, out: dict[str, Any]) -> None:
        """pi_old's log-probs and entropies in a pass of their own, where TRL made none.

        They do not become ``old_per_token_logps``: there the current policy is pi_old, and its ratio stays exactly 1.
        """
        assert self.rollout is not None
        if "log_prob" in self.rollout.local:
            return
        ids = torch.cat([out["prompt_ids"], out["completion_ids"]], 1)
        attention = torch.cat([out["prompt_mask"], out["completion_mask"]], 1)
        forward = {name: out[name] for name in batches.FORWARD if name in out}
        devices = [ids.device] if ids.device.type == "cuda" else []
        # dropout must not draw from the generators that stock TRL uses
        with (
            torch.random.fork_rng(devices),
            torch.no_grad(),
            disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs),
        ):
            logp, entropy, _ = self._get_per_token_logps_and_entropies(
                self.model,
                ids,
                attention,
                out["completion_ids"].size(1),
                batch_size=self.args.per_device_train_batch_size,
                compute_entropy=True,
                **forward,
            )
        self.rollout.local |= {"log_prob": logp, "entropy": entropy}

    def _prepare_batch(self, out: dict[str, Any]) -> None:
        """The driver's part of the pipeline over the batch of all processes."""
        assert self.rollout is not None
        fields = batches.gathered(self.accelerator, self.rollout.local)
        step = batches.step_tokens(fields, self._score, self._group, self._unscored)
        self.entropo.loop.observe(*step.entropy_sum())
        if acts_on_driver(self.plan.methods):
            tokens = batches.driver_tokens(fields, self._score, self._group, self.rollout.number)
            prepared = prepare_batch(self.entropo, tokens)
            self._ship(prepared, out)
            step = replace(step, advantages=prepared.advantage[~self._unscored])
            self.rollout.metrics |= prepared.metrics
        self.rollout.step = step

    def _ship(self, prepared: Prepared, out: dict[str, Any]) -> None:
        """This process's rows of what the driver's part changed or made."""
        ids = out["completion_ids"]
        width = ids.shape[1]
        if prepared.shaped:
            out["advantages"] = self._local(prepared.advantage)[:, :width].to(out["advantages"])
        for name, chosen in prepared.selected.items():
            out[f"{ours.SELECTED}{name}"] = self._local(chosen)[:, :width].to(ids.device)

    # The worker's part: in every micro-batch, between TRL's forward pass and TRL's reading of the advantages.

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        if not self.model.training or self.rollout is None:
            return super()._compute_loss(model, inputs)
        self._pending, self._extra = dict(inputs), None
        taken = self._pending
        loss = super()._compute_loss(model, taken)
        if self._pending is not None:
            raise ConfigError(f"{type(self).__name__}._compute_loss did not ask for the log-probs of its micro-batch.")
        loss = self._added(loss, taken)
        self.rollout.micro += 1
        if self.rollout.micro == generate_every(self.args):
            self._end()
        return loss

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        pending, caught = self._pending, self._caught
        self._pending = None
        if caught is not None and caught.old_pass:
            kwargs["compute_entropy"] = True
        logps, entropies, aux = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if caught is not None and caught.old_pass:
            # the first pass of a rollout batch is pi_old's, the next the reference model's
            caught.old_pass, caught.entropy = False, entropies
        if pending is not None:
            self._extra = self._inform(pending, logps, entropies)
        return logps, entropies, aux

    def _inform(self, inputs: dict[str, Any], logps: Tensor, entropies: Tensor) -> Tensor | None:
        """Shape this micro-batch's advantages; returns what is to be added to TRL's loss."""
        assert self.rollout is not None
        methods, coefficients = self.plan.methods, self.rollout.coefficients
        if self.rollout.step is None and self.rollout.micro < self.args.steps_per_generation:
            self.rollout.record(inputs[ours.ROW], logps, entropies)
        before = ours.micro_tokens(inputs, logps, entropies)
        extra, after, chosen = ours.inform(methods, inputs, before, coefficients)
        self.rollout.add(before.mask, self._shares(before, after, chosen))
        return extra

    def _shares(self, before: Tokens, after: Tokens, chosen: dict[str, Tensor]) -> dict[str, Tensor]:
        assert self.rollout is not None
        methods, coefficients = self.plan.methods, self.rollout.coefficients
        shares = ours.shares(methods, before, after, chosen)
        bounds = self._bounds(coefficients)
        return shares if bounds is None else shares | ours.clip_shares(after, bounds)

    def _bounds(self, coefficients: ours.Coefficients) -> dict[str, Any] | None:
        """The clip of the loss in force; None where it cuts no token by its own ratio."""
        if self.importance_sampling_level != "token":
            return None
        return ours.bounds_in_force(self.plan.methods, coefficients, self.loss_type, self.plan.host.clip)

    def _added(self, loss: Tensor, inputs: dict[str, Any]) -> Tensor:
        """TRL's loss and what the methods add to it, normalised alike."""
        if loss_owner(self.plan.methods) is not None:
            # TRL counts the tokens that its own clip would have cut: it had no advantage to clip
            for name in [name for name in self._metrics["train"] if name.startswith("clip_ratio/")]:
                del self._metrics["train"][name]
        extra, self._extra = self._extra, None
        if extra is None:
            return loss
        mask = inputs["completion_mask"]
        mask = mask * inputs["tool_mask"] if "tool_mask" in inputs else mask
        steps = self.current_gradient_accumulation_steps
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        tokens = tokens * steps / self.args.steps_per_generation
        added = ours.normalised(extra, mask, self.loss_type, self.max_completion_length or 0, steps, tokens)
        if self._entropy_bonus_enabled:
            # TRL logs its own part of the policy loss apart from the bonus, before it divides by the accumulation
            whole = added.detach() * (1 if self.loss_type in ours.BY_TOKENS else steps)
            self._metrics["train"]["policy_loss"][-1] += float(self.accelerator.gather(whole).nanmean())
        return loss + added

    # The end of a rollout batch.

    def _end(self) -> None:
        """After the last micro-batch: move the controllers, and log what the batch was."""
        assert self.rollout is not None
        began, rollout, self.rollout = time.perf_counter(), self.rollout, None
        if rollout.step is None:
            fields = batches.gathered(self.accelerator, rollout.local)
            rollout.step = batches.step_tokens(fields, self._score, self._group, self._unscored)
            self.entropo.loop.observe(*rollout.step.entropy_sum())
        step = preview(rollout.step, self.entropo)
        metrics = rollout.metrics | self._reduced(rollout) | dynamics_metrics(step)
        self.entropo.loop.updated = True
        metrics |= self.entropo.end_step(rollout.number, metrics.get("entropo/dynamics/predicted"))
        if self.accelerator.is_main_process:
            self.idle.report(metrics)
            metrics = step_metrics(step, self.args, self._bounds(rollout.coefficients)) | metrics
            self.alarms.look(self.state.global_step + 1, metrics)
            metrics["entropo/monitor/seconds"] = rollout.seconds + time.perf_counter() - began
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)
        self._move_scalars()

    def _reduced(self, rollout: Rollout) -> dict[str, float]:
        """Means over the response tokens of all processes."""
        sums = list(rollout.sums.values())
        values = torch.stack([rollout.tokens.to(sums[0]), *sums])
        count, *totals = self.accelerator.reduce(values, reduction="sum").tolist()
        return {name: total / max(count, 1) for name, total in zip(rollout.sums, totals, strict=True)}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        scores = self._metrics["eval"].get("reward") if not self.model.training else None
        if scores:
            for name, value in self.entropo.observe_score(sum(scores) / len(scores)).items():
                self._metrics["train"][name].append(value)
        super().log(logs, start_time)

    # State.

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # before TRL writes its own: a checkpoint that can be resumed from always has our state
        if self.args.should_save:
            folder = os.path.join(self._get_output_dir(trial=trial), f"checkpoint-{self.state.global_step}")
            state.save(self.entropo, folder, self.state.global_step, self.rollouts)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.rollouts = state.load(self.entropo, checkpoint)
            self._move_scalars()


class EntropoGRPOTrainer(EntropoMixin, GRPOTrainer):
    """TRL's ``GRPOTrainer`` that keeps the policy's entropy where it should be; takes an ``EntropoGRPOConfig``."""
