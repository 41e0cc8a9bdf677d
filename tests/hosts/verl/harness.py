"""verl's V1 trainer and its actor in one process, without Ray: every step runs the functions that a training runs.

Real: Hydra's configuration, our start-up check, verl's trainer (``step`` and all that it calls), our mixin over it,
verl's estimators, mini-batches, micro-batches, ``ppo_loss``, metric reduction. Replaced: TransferQueue by a dictionary,
the rollout by sampling from a table, the sharded engine by a loop over its ranks, the critic by fixed values.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from functools import partial
from itertools import chain
from types import SimpleNamespace

import torch
import transfer_queue
import verl.trainer.ppo.v1 as v1
from omegaconf import OmegaConf, open_dict
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.metric import Metric
from verl.utils.py_functional import append_to_dict
from verl.workers.engine.utils import prepare_micro_batches
from verl.workers.utils.losses import ppo_loss

from entropo_plugin.hosts.verl.driver.trainer import EntropoTrainer
from entropo_plugin.hosts.verl.startup import guard
from entropo_plugin.hosts.verl.startup.doctor import compose

VOCABULARY, END, LIMIT = 7, 0, 6
ACTOR = "actor_rollout_ref.actor"
SMALL = [
    "data.train_batch_size=4",
    f"data.max_response_length={LIMIT}",
    f"{ACTOR}.ppo_mini_batch_size=2",
    f"{ACTOR}.ppo_micro_batch_size_per_gpu=4",
    f"{ACTOR}.use_kl_loss=false",
    f"{ACTOR}.entropy_from_logits_with_chunking=true",
    f"{ACTOR}.policy_loss.dro_beta=0.1",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.calculate_log_probs=true",
    # the run's description goes there
    f"trainer.default_local_dir={tempfile.mkdtemp()}",
]


@functools.cache
def _composed(*overrides):
    return compose("ppo_trainer", [*SMALL, *overrides])


def configuration(*overrides, **leaves):
    """verl's whole configuration from command-line overrides, then single keys (dots written as ``__``) set on it."""
    config = copy.deepcopy(_composed(*overrides))
    with open_dict(config):
        for name, value in leaves.items():
            OmegaConf.update(config, name.replace("__", "."), value)
    return config


class Store:
    """TransferQueue's key-value calls on a dictionary; what comes out is jagged, as from TransferQueue.

    Floats are kept in one dtype, so that verl's fp32 padding rows fit a step in fp64.
    """

    def __init__(self, dtype):
        self.rows, self.tags, self.dtype = {}, {}, dtype

    def fill(self, rows):
        """A new rollout's rows in place of the last step's."""
        self.rows = {each["key"]: dict(each["fields"]) for each in rows}
        self.tags = {each["key"]: dict(each["tag"]) for each in rows}

    def kv_batch_put(self, keys, partition_id, fields=None, tags=None):
        columns = {} if fields is None else {name: self._column(fields[name]) for name in fields.keys()}
        for number, key in enumerate(keys):
            self.rows.setdefault(key, {}).update({name: each[number] for name, each in columns.items()})
            self.tags.setdefault(key, {}).update(tags[number] if tags else {})
        return KVBatchMeta(partition_id=partition_id, keys=list(keys), tags=[self.tags[key] for key in keys])

    def kv_batch_get(self, keys, partition_id, select_fields=None):
        names = [name for name in self.rows[keys[0]] if select_fields is None or name in select_fields]
        columns = {name: _jagged([self.rows[key][name] for key in keys]) for name in names}
        return tu.get_tensordict(columns)

    def _column(self, field):
        if not isinstance(field, torch.Tensor):
            return list(field)
        return [each.to(self.dtype) if each.is_floating_point() else each for each in field.unbind()]


def _jagged(values):
    """A column as TransferQueue packs it: tensors are jagged also where all rows are of one length."""
    if all(isinstance(each, torch.Tensor) for each in values):
        return torch.nested.as_nested_tensor(values, layout=torch.jagged)
    return values


class Policy(torch.nn.Module):
    """A tabular softmax policy: the next token's logits depend on the last token."""

    def __init__(self, seed=0, dtype=torch.float32):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.table = torch.nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=draw, dtype=torch.float64))
        self.to(dtype)

    def forward(self, data):
        """Log-probs and entropies as an engine returns them: flat, each at the position before its token."""
        tokens = data["input_ids"].values()
        level = torch.log_softmax(self.table[tokens], -1)
        taken = level.gather(1, torch.roll(tokens, -1)[:, None])[:, 0]
        return {"log_probs": taken, "entropy": -(level.exp() * level).sum(-1)}


def sample(policy, prompts=4, group=4, seed=0, score=None):
    """Rows of a rollout batch: ``group`` responses to each prompt, sampled token by token up to END."""
    draw, rows = torch.Generator().manual_seed(seed), []
    score = score or (lambda tokens: float((tokens % 2).float().mean() + 0.25 * len(tokens)))
    for number in range(prompts):
        prompt = torch.randint(1, VOCABULARY, (2 + number % 3,), generator=draw)
        for session in range(group):
            tokens, logp = _respond(policy, int(prompt[-1]), draw)
            rows.append(row(f"p{number}", session, prompt, tokens, logp, score(tokens)))
    return rows


def _respond(policy, last, draw):
    table, tokens, logp = torch.log_softmax(policy.table.detach(), -1), [], []
    while len(tokens) < LIMIT and (not tokens or last != END):
        token = int(torch.multinomial(table[last].exp(), 1, generator=draw))
        tokens, logp, last = [*tokens, token], [*logp, table[last, token]], token
    return torch.tensor(tokens), torch.stack(logp)


def row(uid, session, prompt, tokens, logp, score, mask=None, output=0):
    """One output of a rollout, with its key ``{uid}_{session}_{output}``, as verl's agent loop stores it."""
    mask = torch.ones_like(tokens) if mask is None else mask
    reward = torch.zeros(len(tokens), dtype=logp.dtype)
    reward[-1] = score
    ids = torch.cat([prompt, tokens])
    fields = {
        "prompts": prompt, "responses": tokens, "input_ids": ids, "response_mask": mask, "loss_mask": mask,
        "rm_scores": reward, "rollout_log_probs": logp, "uid": uid,
    }  # fmt: skip
    return {"key": f"{uid}_{session}_{output}", "fields": fields, "tag": {"seq_len": len(ids)}}


class Ranks:
    """The actor's data-parallel ranks in lockstep: verl's cuts and metrics, and one table that holds FSDP's averages.

    Mirrors ``TrainingWorker.train_mini_batch`` and ``FSDPEngine.forward_backward_batch`` of verl 0.9.1; their
    collectives become sums over the ranks.
    """

    def __init__(self, policy, config, size=1, lr=0.1):
        self.policy, self.size, self.engine = policy, size, OmegaConf.select(config, ACTOR)
        self.reference = copy.deepcopy(policy)
        self.optimizer = torch.optim.SGD(policy.parameters(), lr=lr)
        self._dispatch_info = {"actor": list(range(size))}
        self.losses, self.gradients, self.loss_fn = [], [], None

    def set_loss_fn(self, loss_fn):
        self.loss_fn = loss_fn

    def _data(self, meta):
        data = transfer_queue.kv_batch_get(keys=meta.keys, partition_id=meta.partition_id)
        for name, value in meta.extra_info.items():
            tu.assign_non_tensor_data(data, name, value)
        return data

    def _infer(self, meta, policy):
        with torch.no_grad():
            for part in meta.chunk(self.size):
                data = self._data(part)
                found = {name: like(value, data["input_ids"]) for name, value in output(policy, data).items()}
                fields = tu.get_tensordict(found)
                transfer_queue.kv_batch_put(keys=part.keys, partition_id=part.partition_id, fields=fields)
        return meta

    def compute_log_prob(self, meta):
        return self._infer(meta, self.policy)

    def compute_ref_log_prob(self, meta):
        return self._infer(meta, self.reference)

    def update_actor(self, meta):
        parts = [self._data(part) for part in meta.chunk(self.size)]
        cut = {name: tu.pop(parts[0], name) for name in ("mini_batch_size", "epochs", "seed", "dataloader_kwargs")}
        rows = cut["mini_batch_size"] // self.size
        runs = [
            tu.make_iterator(part, rows, cut["epochs"], cut["seed"] + rank, cut["dataloader_kwargs"])
            for rank, part in enumerate(parts)
        ]
        metrics = {"mfu": [0.0]}
        for together in zip(*runs, strict=True):
            append_to_dict(metrics, self._mini_batch(together))
        return tu.get_tensordict({}, {"metrics": metrics})

    def _mini_batch(self, parts):
        """One optimizer step; the gradient is the mean over the ranks, as FSDP's reduction gives it."""
        self.optimizer.zero_grad()
        tokens, loss, metrics = sum(int(part["loss_mask"].sum()) for part in parts), 0.0, []
        for cut in self._micro_batches(parts, tokens):
            found = {}
            for micro in cut:
                value, each = self.loss_fn(model_output=output(self.policy, micro), data=micro)
                (value / self.size).backward()
                loss += float(value.detach()) / self.size
                append_to_dict(found, each)
            metrics.append(found)
        self.losses.append(loss)
        self.gradients.append(self.policy.table.grad.clone())
        self.optimizer.step()
        return _over_ranks(metrics)

    def _micro_batches(self, parts, tokens):
        """Every rank's micro-batches, as many on each, which verl's ranks agree on by a collective."""
        for part in parts:
            tu.assign_non_tensor(
                part,
                batch_num_tokens=tokens,
                dp_size=self.size,
                use_dynamic_bsz=self.engine.use_dynamic_bsz,
                max_token_len_per_gpu=self.engine.ppo_max_token_len_per_gpu,
                micro_batch_size_per_gpu=self.engine.ppo_micro_batch_size_per_gpu,
            )
        cut = [prepare_micro_batches(part)[0] for part in parts]
        count = max(map(len, cut))
        if all(len(each) == count for each in cut):
            return cut
        return [prepare_micro_batches(part, min_num_micro_batch=count)[0] for part in parts]


def _over_ranks(metrics):
    gathered = {name: [each[name] for each in metrics] for name in metrics[0]}
    return {
        name: Metric.aggregate_dp(found) if isinstance(found[0], Metric) else list(chain.from_iterable(found))
        for name, found in gathered.items()
    }


def output(policy, data):
    """What an engine's forward pass gives; entropy only where it is asked for."""
    found = policy(data)
    if not tu.get_non_tensor_data(data, "calculate_entropy", False):
        found.pop("entropy")
    return found


def like(flat, nested):
    """Flat values in the jagged layout of ``nested``."""
    return torch.nested.nested_tensor_from_jagged(flat, offsets=nested.offsets())


class Tokenizer:
    """As much of a tokenizer as a step asks for."""

    eos_token_id = pad_token_id = END

    def __len__(self):
        return VOCABULARY


class InProcess(v1.PPOTrainerSync):
    """verl's synchronous trainer with its processes replaced by objects."""

    def _build_replay_buffer(self):
        return self

    def _setup(self):
        self.tokenizer = Tokenizer()
        self.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[])
        self.global_steps, self.timing_raw, self.ref_in_actor = 1, {}, False
        self.actor_rollout_wg = self.ref_policy_wg = self.ranks

    def prepare_step(self):
        return {}

    def on_sample_end(self):
        pass

    def sample(self, global_steps, partition_id, batch_size):
        keys, tags = [each["key"] for each in self.rows], [each["tag"] for each in self.rows]
        return KVBatchMeta(partition_id=partition_id, keys=keys, tags=tags), {}

    def _compute_values(self, batch, metrics):
        data = transfer_queue.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id)
        values = like(data["responses"].values() * 0.1, data["responses"]).to(data["rm_scores"].dtype)
        fields = tu.get_tensordict({"values": values})
        return transfer_queue.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)

    def _update_critic(self, batch, metrics):
        return batch

    def _compute_metrics(self, batch, metrics):
        transfer_queue.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["responses"])


class Stock(InProcess):
    """Without us: the workers keep the loss that verl gives them."""

    def _setup(self):
        super()._setup()
        actor = omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
        self.ranks.set_loss_fn(partial(ppo_loss, config=actor))


class Ours(EntropoTrainer, InProcess):
    """Our mixin over it, put together as ``register_trainers`` does."""

    base_mode = "sync"


class Training:
    """A training that takes one global step at a time.

    Attributes:
        store: every row's fields by key, as the last step left them.
        policy, ranks: the weights, and each optimizer step's loss and gradient.
    """

    def __init__(self, config, monkeypatch, policy=None, ranks=1, lr=0.1, kind=Ranks):
        guard.check_start(config)
        self.policy = policy or Policy()
        self.store = Store(self.policy.table.dtype)
        for name in ("kv_batch_put", "kv_batch_get"):
            monkeypatch.setattr(transfer_queue, name, getattr(self.store, name))
        ours = config.trainer.v1.trainer_mode.startswith("entropo_")
        self.trainer = (Ours if ours else Stock)(config)
        self.trainer.ranks = self.ranks = kind(self.policy, config, ranks, lr)
        self.trainer._setup()

    def step(self, rows):
        """One global step on these rows; returns what verl would log of it."""
        self.store.fill(rows)
        self.trainer.rows, metrics = rows, {}
        self.batch = self.trainer.step(metrics, {})
        self.trainer._compute_metrics(self.batch, metrics)
        self.trainer.global_steps += 1
        return metrics

    def field(self, name):
        """One field of every row by key, after a step."""
        return {key: each[name] for key, each in self.store.rows.items() if name in each}
