"""One global step of verl's own V1 trainer on the driver, without a cluster: its queue is a dict that counts bytes.

Everything that happens on the driver is verl's code and ours. What other processes do (sampling, the two forward
passes, the update) is replaced by numbers that are put into the queue.
"""

from types import SimpleNamespace

import torch
import transfer_queue as tq
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync

from entropo_plugin.hosts.verl.driver.trainer import EntropoTrainer
from entropo_plugin.hosts.verl.metrics.health import Alarms
from entropo_plugin.hosts.verl.startup.doctor import compose

PROMPT = 3
END = 2


class Queue:
    """TransferQueue's ``kv_batch_get`` and ``kv_batch_put`` on a dict of rows."""

    def __init__(self):
        self.rows, self.fetched, self.written = {}, 0, 0

    def kv_batch_get(self, keys, partition_id, select_fields=None):
        names = [name for name in select_fields or self.rows[keys[0]] if all(name in self.rows[key] for key in keys)]
        columns = {name: [self.rows[key][name] for key in keys] for name in names}
        self.fetched += sum(size(row) for column in columns.values() for row in column)
        return TensorDict({name: stacked(column) for name, column in columns.items()}, batch_size=len(keys))

    def kv_batch_put(self, keys, partition_id, fields=None, tags=None, data_parser=None):
        for name in fields.keys():
            values = fields[name]
            rows = values.unbind() if isinstance(values, torch.Tensor) else list(values)
            for key, row in zip(keys, rows, strict=True):
                self.rows.setdefault(key, {})[name] = row
                self.written += size(row)
        return self.batch

    def install(self, monkeypatch):
        monkeypatch.setattr(tq, "kv_batch_get", self.kv_batch_get)
        monkeypatch.setattr(tq, "kv_batch_put", self.kv_batch_put)


def size(row):
    return row.numel() * row.element_size() if isinstance(row, torch.Tensor) else 0


def stacked(column):
    if isinstance(column[0], torch.Tensor):
        return torch.nested.as_nested_tensor([row.clone() for row in column], layout=torch.jagged)
    return NonTensorStack(*(NonTensorData(each) for each in column))


def sampled(prompts, samples, length, seed=0, full=False):
    """Rows as verl's agent loop leaves them: ``{key: {field: (response,) values}}``, rewards of 0 and 1."""
    draw, rows = torch.Generator().manual_seed(seed), {}
    for prompt in range(prompts):
        for sample in range(samples):
            n = length if full else int(torch.randint(2, length + 1, (1,), generator=draw))
            ids = torch.randint(3, 30, (n,), generator=draw)
            ids[-1] = END if n < length else ids[-1]
            reward = torch.zeros(n)
            reward[-1] = float(sample % 3 == 0)
            rows[f"p{prompt}_{sample}_0"] = {
                "uid": f"p{prompt}",
                "prompts": torch.ones(PROMPT, dtype=torch.long),
                "responses": ids,
                "response_mask": torch.ones(n, dtype=torch.long),
                "rm_scores": reward,
                "rollout_log_probs": -torch.rand(n, generator=draw) * 4 - 0.01,
                "num_turns": 2,
            }
    return rows


class Workers:
    """The actor's processes: their forward pass leaves log-probs and entropies of whole sequences in the queue."""

    def __init__(self, queue, seed=1):
        self.queue, self.draw, self._dispatch_info = queue, torch.Generator().manual_seed(seed), {"actor": [0]}
        self.updates = []

    def compute_log_prob(self, batch):
        rows = [self.queue.rows[key] for key in batch.keys]
        widths = [PROMPT + len(row["responses"]) for row in rows]
        for row, width in zip(rows, widths, strict=True):
            row["entropy"] = torch.rand(width, generator=self.draw) ** 3 * 2
            row["log_probs"] = -torch.rand(width, generator=self.draw) * 4 - 0.01
            if "rollout_log_probs" in row:
                row["log_probs"][PROMPT - 1 : -1] = row["rollout_log_probs"]
        return batch

    def update_actor(self, batch):
        self.updates.append(batch.extra_info)
        return {"metrics": {"mfu": [0.4], "pg_loss": [0.0], "entropo/clip/above_positive": [0.25]}}


class Tokenizer:
    """One letter a token."""

    eos_token_id, pad_token_id = END, 0

    def __len__(self):
        return 30

    def decode(self, ids, **_):
        return "".join(chr(97 + each % 26) for each in ids)


def driver(rows, *overrides, ours=True):
    """A trainer, its queue filled with the rows, ready for ``step``; without ``ours`` it is verl's own."""
    bases = (EntropoTrainer, PPOTrainerSync) if ours else (PPOTrainerSync,)
    cls = type("Driver", bases, {"base_mode": "sync", "prepare_step": lambda self: {}})
    rollout = "actor_rollout_ref"
    settings = [f"data.train_batch_size={len(rows)}", f"{rollout}.model.path=/nowhere", "data.max_response_length=8"]
    settings += [f"{rollout}.actor.ppo_mini_batch_size={len(rows)}", f"{rollout}.rollout.n=1"]
    if not any(each.startswith("+entropo=") for each in overrides):
        settings += ["algorithm.adv_estimator=grpo", *(["+entropo=monitor"] if ours else [])]
    trainer = object.__new__(cls)
    config = compose("ppo_trainer", [*settings, *overrides])
    queue = Queue()
    if ours:
        EntropoTrainer.prepare(trainer, config)
        trainer.alarms = Alarms(len(Tokenizer()))
    queue.rows = {key: dict(row) for key, row in rows.items()}
    tags = [
        {"seq_len": PROMPT + len(row["responses"]), "min_global_steps": 0, "max_global_steps": 0}
        for row in rows.values()
    ]
    queue.batch = KVBatchMeta(partition_id="train", keys=list(rows), tags=tags)
    nothing = SimpleNamespace(sleep_replicas=lambda: None)
    given = dict(config=config, tokenizer=Tokenizer(), use_critic=False, use_reference_policy=False, global_steps=1)
    given |= dict(parameter_sync_step=1, curr_step_profile=False, checkpoint_manager=nothing)
    given |= dict(replay_buffer=SimpleNamespace(sample=lambda **_: (queue.batch, {})), distillation_config=None)
    given |= dict(reward_loop_manager=SimpleNamespace(reward_loop_worker_handles=[]), actor_rollout_wg=Workers(queue))
    given |= dict(resource_pool_manager=SimpleNamespace(get_n_gpus=lambda: 1), _rollout_moe_lb_metrics_accumulator=None)
    vars(trainer).update(given)
    return trainer, queue


def one_step(trainer):
    """What ``fit`` does with a step between sampling and logging; returns what would be logged."""
    metrics, timing = {}, {"step": 1.0}
    batch = trainer.step(metrics, timing)
    trainer._compute_metrics(batch, metrics, timing | {"step": 1.0}, global_steps=trainer.global_steps, epoch=0)
    trainer.global_steps += 1
    return metrics
