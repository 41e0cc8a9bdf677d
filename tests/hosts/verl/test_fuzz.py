"""Random configurations: each trains a simulated step or is refused by name; nothing else ever happens.

``ENTROPO_FUZZ_CASES`` sets how many (``make fuzz``: 10,000), ``ENTROPO_FUZZ_SEED`` which.
"""

import json
import math
import os
import random
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import NonTensorData, TensorDict
from verl.workers.config import FSDPActorConfig, PolicyLossConfig

from entropo_plugin.config import TRAINER_MODES, ConfigError, kind, parse
from entropo_plugin.hosts.verl.driver import estimators
from entropo_plugin.hosts.verl.driver.tokens import mini_batches
from entropo_plugin.hosts.verl.driver.trainer import EntropoTrainer
from entropo_plugin.hosts.verl.startup import guard, plan
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.hosts.verl.worker.loss import PAYLOAD, entropo_loss
from entropo_plugin.methods import Tokens, registry
from entropo_plugin.objectives import leave_one_out
from entropo_plugin.pipeline import prepare_batch
from entropo_plugin.run import Run

CASES = int(os.environ.get("ENTROPO_FUZZ_CASES", "400"))
SEED = int(os.environ.get("ENTROPO_FUZZ_SEED", "0"))

ACTOR = "actor_rollout_ref.actor"
JUNK = [
    None, True, False, 0, -1, 1, 3, 10**400, -(10**5000), 0.5, -0.5, 1e-12, 1e300, math.nan, math.inf, -math.inf, "",
    "abc", "1", "0.1", "null", "true", "constant", "???", "${nowhere}", "${entropo.repo.base}", "x" * 10_000,
    "\x00", "\ud800", [], [1, 2], {}, {"a": 1}, {1: 2}, {"zeta": {"high": 1}},
]  # fmt: skip
VERL = {
    "algorithm.adv_estimator": [*registry.estimators(), "grpo", "gae", "rloo"],
    f"{ACTOR}.policy_loss.loss_mode": [*registry.losses(), "vanilla", "gspo", "clip_cov"],
    "trainer.v1.trainer_mode": [*TRAINER_MODES, "sync", "colocate_async"],
    "trainer.use_v1": [True, True, True, False],
    "trainer.critic_warmup": [0, 3],
    "trainer.resume_mode": ["auto", "disable", "resume_path"],
    "trainer.resume_from_path": [None, "/nowhere/global_step_3", "/nowhere"],
    "trainer.default_local_dir": ["checkpoints", "/nowhere"],
    "algorithm.rollout_correction.bypass_mode": [False, False, True],
    "distillation.enabled": [False, False, True],
    "data.train_batch_size": [1, 16],
    "data.max_response_length": [1, 8],
    f"{ACTOR}.ppo_mini_batch_size": [1, 4, 16, 64],
    f"{ACTOR}.ppo_epochs": [1, 2],
    f"{ACTOR}.clip_ratio_high": [0.2, 0.28],
    f"{ACTOR}.calculate_entropy": [True, False],
    f"{ACTOR}.entropy_from_logits_with_chunking": [True, False],
    f"{ACTOR}.entropy_coeff": [0, 0.001, -0.1],
    f"{ACTOR}.shuffle": [False, True],
    "critic.enable": [None, True, False],
    "actor_rollout_ref.rollout.name": ["hf", "vllm", "sglang"],
}
STOCK = {
    "algorithm.adv_estimator": ["grpo", "gae", "rloo"],
    f"{ACTOR}.policy_loss.loss_mode": ["vanilla"] * 4 + ["gspo"],
}


def leaves(group, path="entropo"):
    """Every setting of ours: its path and what its field knows."""
    for name, item in group.__dataclass_fields__.items():
        if "group" in item.metadata:
            yield from leaves(item.metadata["group"], f"{path}.{name}")
        else:
            yield f"{path}.{name}", item


LEAVES = dict(leaves(kind()))
# the lists of methods are drawn apart
LISTS = ("entropo.methods", "entropo.chosen")
VALUES = {path: item for path, item in LEAVES.items() if path not in LISTS}


def allowed(chance, item):
    """A value that the field's own bounds allow, its ends included."""
    about = item.metadata
    if about["choices"]:
        return chance.choice(about["choices"])
    if item.type == "bool":
        return chance.random() < 0.5
    if about["optional"] and chance.random() < 0.3:
        return None
    if "str" in item.type:
        return chance.choice(["logs", "logs/${trainer.experiment_name}"])
    low, high = about["low"], about["high"]
    ends = [low, high, item.default if item.default is not None else low]
    if item.type == "int":
        return chance.choice([*ends, chance.randint(low, high)])
    reach = math.exp(chance.uniform(math.log(1e-6), math.log(max(high - low, 1e-6))))
    return chance.choice([*ends, chance.uniform(low, high), min(high, low + reach), max(low, high - reach)])


def misspelt(chance, path):
    place = chance.randrange(len("entropo.") + 1, len(path))
    return path[:place] + chance.choice(["", "x", ".", "_"]) + path[place + 1 :]


def methods_of(chance):
    """A value of ``entropo.methods``: mostly names that exist, now and then one twice, misspelt, or no list."""
    names = chance.sample(sorted(registry.known()), chance.choice([0, 0, 1, 1, 1, 2, 3]))
    if chance.random() < 0.03:
        names = [*names, *names, "repo_x"][: chance.choice([2, 4, 9])]
    return chance.choice(JUNK) if chance.random() < 0.02 else names


def read_by(chance, names):
    """Paths of settings that these methods read; one time in ten, of all methods."""
    if not isinstance(names, list) or not names or chance.random() < 0.1:
        return sorted(VALUES)
    known = [registry.known()[name] for name in names if isinstance(name, str) and name in registry.known()]
    groups = [f"entropo.{path}" for method in known for path in (method.reads or method.groups())]
    root = [path for path in VALUES if path.split(".")[1] in ("idle_steps", "monitor", "nan_reward", "resume")]
    return sorted({*root, *(path for path in VALUES if any(path.startswith(group) for group in groups))})


def case(chance):
    """One set of overrides: mostly sensible, now and then broken in type, range, name or combination."""
    names = methods_of(chance)
    # where methods are listed, doors to others are rare
    usual = STOCK if names and chance.random() < 0.8 else VERL
    chosen = {path: chance.choice(usual[path]) for path in STOCK} | {"entropo.methods": names}
    paths = read_by(chance, names)
    # few: many of them are read beside one law alone, and refused beside the others
    for path in chance.sample(paths, min(len(paths), chance.choice([0, 0, 0, 1, 2, 4]))):
        chosen[path] = allowed(chance, VALUES[path])
    for path in chance.sample(sorted(VERL), chance.choice([0, 0, 1, 2])):
        chosen[path] = chance.choice(VERL[path])
    if chance.random() < 0.2:
        chosen[chance.choice(sorted(LEAVES))] = chance.choice(JUNK)
    if chance.random() < 0.1:
        chosen[chance.choice(sorted(VERL))] = chance.choice(JUNK)
    if chance.random() < 0.05:
        chosen[misspelt(chance, chance.choice(sorted(LEAVES)))] = chance.choice([1, "a"])
    if chance.random() < 0.05:
        group = chance.choice(sorted(VALUES)).rpartition(".")[0]
        chosen[chance.choice([group, "entropo", "trainer.v1", f"{ACTOR}.policy_loss"])] = chance.choice(JUNK)
    return chosen


def raw(node):
    """A node's value with its interpolations as they are written."""
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node and node._value()


@contextmanager
def changed(config, overrides):
    """The configuration with the overrides in place; afterwards it is as it was."""
    before = []
    try:
        for path, value in overrides.items():
            where, _, name = path.rpartition(".")
            parent = OmegaConf.select(config, where) if where else config
            if not OmegaConf.is_dict(parent) or path.split(".")[0] == "entropo":
                OmegaConf.update(config, path, value, merge=False, force_add=True)
                continue
            before.append((parent, name, name in parent._content, raw(parent._get_node(name))))
            parent[name] = value
        yield config
    finally:
        for parent, name, known, value in reversed(before):
            if known:
                parent[name] = value
            elif name in parent._content:
                del parent[name]


@pytest.fixture(scope="module")
def base():
    config = compose("ppo_trainer", ["+cpu=tiny", "+entropo=monitor", "actor_rollout_ref.model.path=/nowhere"])
    OmegaConf.set_struct(config, False)
    return config


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


PROMPTS, RESPONSES, WORDS = [3, 2, 4, 1], [4, 5, 2, 6], 7


def rollout(table, draw):
    """Four responses to two prompts and what pi_old says of them, as verl hands them to a loss."""
    ids = [torch.randint(0, WORDS, (p + r,), generator=draw) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    data = {
        "input_ids": nested(ids),
        "prompts": nested(row[:p] for row, p in zip(ids, PROMPTS, strict=True)),
        "responses": nested(row[p:] for row, p in zip(ids, PROMPTS, strict=True)),
        "response_mask": nested(torch.ones(r, dtype=torch.int64) for r in RESPONSES),
    }
    with torch.no_grad():
        output = forward(table, TensorDict(data, batch_size=4))
    for name, key in (("old_log_probs", "log_probs"), ("entropy", "entropy")):
        rows, start = [], 0
        for p, r in zip(PROMPTS, RESPONSES, strict=True):
            rows.append(output[key][start + p - 1 : start + p + r - 1])
            start += p + r
        data[name] = nested(rows)
    found = TensorDict(data, batch_size=4)
    for name, value in {"dp_size": 1, "batch_num_tokens": sum(RESPONSES), "global_batch_size": 4}.items():
        found[name] = NonTensorData(value)
    return found


def forward(table, data):
    ids = data["input_ids"].values()
    logp = torch.log_softmax(table[ids], -1)
    taken = logp.gather(1, torch.roll(ids, -1)[:, None])[:, 0]
    return {"log_probs": taken, "entropy": -(logp.exp() * logp).sum(-1)}


KEYS = [f"p{row // 2}_{row % 2}_0" for row in range(4)]


def driver_tokens(run, data, draw, number):
    """The batch as the driver's part of the pipeline takes it, with base advantages on random rewards."""
    fields = ("old_log_probs", "entropy", "response_mask")
    logp, entropy, mask = (data[name].to_padded_tensor(0) for name in fields)
    rewards, group = torch.randn(4, mask.shape[1], generator=draw) * mask, torch.tensor([0, 0, 1, 1])
    owner = next((method for method in run.methods if method.estimator == method.host.estimator), None)
    if owner is None:
        advantage = leave_one_out(rewards.sum(-1), group)[:, None] * mask
    else:
        with estimators.batch(owner, KEYS):
            advantage, _ = estimators.base_advantage(rewards, mask, index=np.array([key[:2] for key in KEYS]))
    about = {"ref_log_prob": logp - 0.1, "reward": rewards.sum(-1), "group": group, "parts": mini_batches(4, 1, 2)}
    return Tokens(logp, mask, logp, advantage, entropy, keys=KEYS, step=number, **about)


def one_step(run, table, actor, number):
    """What the driver and one worker do in a global step, on the table's logits, with our own functions."""
    draw = torch.Generator().manual_seed(number)
    data = rollout(table, draw)
    tokens = driver_tokens(run, data, draw, number)
    mask = tokens.mask.bool()
    run.loop.observe(float(tokens.entropy[mask].double().sum()), int(mask.sum()))
    prepared = prepare_batch(run, tokens)
    shipped = EntropoTrainer._to_ship(SimpleNamespace(plan=SimpleNamespace(methods=run.methods)), prepared)
    for name, padded in ({"advantages": tokens.advantage, "ref_log_prob": tokens.ref_log_prob} | shipped).items():
        data[name] = nested(padded[row, :r] for row, r in enumerate(RESPONSES))
    data[PAYLOAD] = NonTensorData(run.coefficients())
    moved = (table + 0.1).detach().requires_grad_()
    loss, found = entropo_loss(config=actor, model_output=forward(moved, data), data=data, methods=run.methods)
    loss.backward()
    assert torch.isfinite(loss) and moved.grad.isfinite().all()
    run.loop.updated = True
    metrics = prepared.metrics | run.end_step(number, -0.1)
    shares = [each.aggregate() for name, each in found.items() if name.startswith("entropo/")]
    assert all(math.isfinite(value) for value in [*metrics.values(), *shares])


def trains(chosen, loss_mode):
    """Two global steps, with a save and a resume between them, and every coefficient inside its bounds."""
    loss = PolicyLossConfig(loss_mode=loss_mode)
    actor = FSDPActorConfig(
        strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=1, ppo_mini_batch_size=4, policy_loss=loss
    )
    run = Run(chosen.methods, chosen.settings)
    table = torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(0))
    for number in (1, 2):
        one_step(run, table, actor, number)
        state = json.loads(json.dumps(run.state_dict(number), allow_nan=False))
        run = Run(chosen.methods, chosen.settings)
        run.load_state_dict(state, "here", number)
        assert run.state_dict(number) == state
        for each in run.loop.controllers.values():
            assert not each.adapts or abs(each.value) <= each.about.high


def outcome(config, overrides):
    """refused | trained | not ours; anything but a ConfigError that names one of the keys is a failure."""
    settings = OmegaConf.to_container(config.entropo)
    ours = any(path.startswith("entropo") for path in overrides)
    try:
        with changed(config, overrides):
            try:
                if not plan.concerns(config):
                    return "not ours"
                guard.check_start(config)
                chosen = plan.Plan.from_config(config)
            except ConfigError as error:
                assert names_a_key(str(error), overrides), error
                return "refused"
            trains(chosen, plan.get(config, f"{ACTOR}.policy_loss.loss_mode", "vanilla"))
            return "trained"
    finally:
        if ours:
            config.entropo = settings


def names_a_key(message, overrides):
    """Whether a message says which key to change, and is of a size that a person reads."""
    known = [*overrides, *LEAVES, *VERL, "entropo"]
    return len(message) < 900 and any(path.strip(".").encode("utf-8", "replace").decode() in message for path in known)


def test_every_configuration_trains_or_is_refused_by_name(base):
    chance, found = random.Random(SEED), Counter()
    for number in range(CASES):
        overrides = case(chance)
        try:
            found[outcome(base, overrides)] += 1
        except Exception as error:
            short = {path: str(value)[:60] if isinstance(value, str) else value for path, value in overrides.items()}
            pytest.fail(f"case {number} of seed {SEED}: {short}\n{type(error).__name__}: {str(error)[:600]}")
    print(f"{CASES} cases, seed {SEED}: {dict(found)}")
    assert found["trained"] > CASES // 5 and found["refused"] > CASES // 4


@pytest.mark.parametrize("path", sorted(VALUES))
def test_junk_in_any_key_is_taken_or_refused_by_that_keys_path(path):
    for value in JUNK:
        node = value
        for name in reversed(path.split(".")[1:]):
            node = {name: node}
        try:
            parse(node)
        except ConfigError as error:
            assert path in str(error) and len(str(error)) < 400, (value, error)
