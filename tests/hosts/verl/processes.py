"""Two actor ranks as processes: verl's own ``TrainingWorker.train_mini_batch`` and FSDP micro-batch loop over gloo.

Of the engine only the model and its optimizer are ours: a table whose gradients are averaged over the ranks, as FSDP's
are. Processes are forked, because importing verl again would take longer than all the rest.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import harness
import torch
import torch.distributed as dist
from verl.utils import seqlen_balancing
from verl.utils import tensordict_utils as tu
from verl.utils.profiler import DistProfiler
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine_workers import TrainingWorker


class TableEngine(transformer_impl.FSDPEngineWithLMHead):
    """verl's FSDP engine around a table; what is not overridden is verl's."""

    def __init__(self, policy, optimizer):
        self.policy, self.optimizer, self.gradients = policy, optimizer, []
        self.ulysses_sequence_parallel_size, self.scaler = 1, None

    def get_data_parallel_group(self):
        return dist.group.WORLD

    def get_data_parallel_size(self):
        return dist.get_world_size()

    def get_data_parallel_rank(self):
        return dist.get_rank()

    def is_mp_src_rank_with_outputs(self):
        return True

    def train_mode(self, **unused):
        return nullcontext()

    def _gradient_sync_context(self, is_last_micro_batch):
        return nullcontext()

    def lr_scheduler_step(self):
        return 0.0

    def optimizer_zero_grad(self):
        self.optimizer.zero_grad()

    def optimizer_step(self):
        gradient = self.policy.table.grad
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
        self.gradients.append(gradient.clone())
        self.optimizer.step()
        return float(gradient.norm())

    def forward_step(self, micro_batch, loss_function, forward_only):
        found = harness.output(self.policy, micro_batch)
        loss, metrics = loss_function(model_output=found, data=micro_batch, dp_group=self.get_data_parallel_group())
        return loss, {"model_output": {}, "loss": loss.detach().item(), "metrics": metrics}


def worker(ranks):
    """verl's worker without the Ray actor around it."""
    found = object.__new__(TrainingWorker)
    found.engine, found.loss_fn = TableEngine(ranks.policy, ranks.optimizer), ranks.loss_fn
    found.engine_config = SimpleNamespace(
        forward_only=False,
        use_dynamic_bsz=ranks.engine.use_dynamic_bsz,
        max_token_len_per_gpu=ranks.engine.ppo_max_token_len_per_gpu,
        micro_batch_size_per_gpu=ranks.engine.ppo_micro_batch_size_per_gpu,
        use_fused_kernels=False,
    )
    found.model_config, found.flops_counter, found.device_name = {}, None, "cpu"
    found.profiler = DistProfiler(rank=0, config=None)
    return found


class Processes(harness.Ranks):
    """As :class:`harness.Ranks`, with every rank a process of its own."""

    def update_actor(self, meta):
        parts = [self._data(part) for part in meta.chunk(self.size)]
        with tempfile.TemporaryDirectory() as folder:
            context = torch.multiprocessing.get_context("fork")
            running = [context.Process(target=_rank, args=(self, part, n, folder)) for n, part in enumerate(parts)]
            for each in running:
                each.start()
            for each in running:
                each.join(120)
            assert [each.exitcode for each in running] == [0] * self.size
            results = [torch.load(Path(folder) / str(n), weights_only=False) for n in range(self.size)]
        assert all(torch.equal(results[0]["table"], each["table"]) for each in results)
        self.losses += results[0]["metrics"]["loss"]
        self.gradients += results[0]["gradients"]
        self.policy.table.data.copy_(results[0]["table"])
        return tu.get_tensordict({}, {"metrics": results[0]["metrics"] | {"mfu": [0.0]}})


def _rank(ranks, data, rank, folder):
    # this machine has no accelerator, and verl takes "cuda" for granted
    transformer_impl.get_device_id = seqlen_balancing.get_device_name = lambda: "cpu"
    store = dist.FileStore(f"{folder}/store", ranks.size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks.size, timeout=timedelta(hours=1))
    made = worker(ranks)
    metrics = tu.get(made.train_mini_batch(data), "metrics")
    result = {"metrics": metrics, "table": ranks.policy.table.detach(), "gradients": made.engine.gradients}
    torch.save(result, Path(folder) / str(rank))
    dist.destroy_process_group()
