"""The batch of two responses for which every method's numbers are known, and what a method makes of it.

verl's vanilla loss of it, clip 0.2 and 0.28, dual clip 3, is -0.645515.
"""

import math
import random

import harness
import torch
from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla

from entropo_plugin.config import parse
from entropo_plugin.methods import Host, Tokens
from entropo_plugin.methods.active import activate
from entropo_plugin.pipeline import prepare_batch
from entropo_plugin.run import Run

OLD = torch.tensor([[-0.1, -2, -0.05, -3], [-0.2, -4, -0.01, -9]], dtype=torch.float64)
LOGP = torch.tensor([[-0.12, -1.8, -0.05, -3.3], [-0.2, -4.5, -0.02, -9]], dtype=torch.float64)
ADVANTAGE = torch.tensor([[1.5] * 4, [-0.5] * 3 + [0.0]], dtype=torch.float64)
ENTROPY = torch.tensor([[0.5, 1.2, 0.2, 2.0], [0.3, 1.0, 0.1, math.nan]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
VANILLA = -0.645515
N = 7
ESTIMATORS = ("quantile_baseline", "negative_reinforce")
CLIP = (0.2, 0.28, 3.0)
ACTOR = "actor_rollout_ref__actor"
MICRO = f"{ACTOR}__ppo_micro_batch_size_per_gpu"
# the whole rollout batch is one mini-batch, updated twice, so that the second update finds ratios other than 1
WHOLE = {f"{ACTOR}__ppo_mini_batch_size": 4, f"{ACTOR}__ppo_epochs": 2}


def run_of(*methods, entropy=None, facts=None, **node):
    """A run of these methods with these settings; ``entropy`` is what the step has measured so far."""
    settings = parse({"methods": list(methods)} | node)
    host = Host(**({"estimator": "grpo", "clip": CLIP} | (facts or {})))
    run = Run(activate(settings, host), settings)
    if entropy is not None:
        run.loop.observe(entropy * N, N)
    return run


def batch(**changes):
    """The golden batch on the driver."""
    fields = dict(log_prob=OLD, mask=MASK, old_log_prob=OLD, advantage=ADVANTAGE, entropy=ENTROPY, step=1)
    return Tokens(**(fields | {"keys": ("a_0_0", "b_0_0")} | changes))


def micro(logp=LOGP, **changes):
    """The same batch in the worker, with the current policy's log-probs."""
    return batch(**({"log_prob": logp, "entropy": None} | changes))


def prepared(run, **changes):
    return prepare_batch(run, batch(**changes))


def vanilla(logp, advantage):
    """verl's vanilla loss of the golden batch, token-mean."""
    config = harness.configuration(actor_rollout_ref__actor__clip_ratio_high=0.28)
    actor = harness.omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    return compute_policy_loss_vanilla(OLD, logp, advantage, MASK, "token-mean", actor)[0]


def token_mean(loss):
    """Of a loss that is 0 in the padding."""
    return loss.sum() / N


def steps(run, *entropies, first=1):
    """Close one global step for each entropy; returns each step's metrics."""
    metrics = []
    for number, entropy in enumerate(entropies, first):
        run.loop.observe(entropy * N, N)
        prepare_batch(run, batch(step=number))
        run.loop.updated = True
        metrics.append(run.end_step(number))
    return metrics


def rollout(seed=11):
    """Sixteen responses with rewards that no float holds exactly."""
    draw = random.Random(3)
    return harness.sample(harness.Policy(dtype=torch.float64), seed=seed, score=lambda _: draw.gauss(0, 1))


def train(monkeypatch, *overrides, ranks=1, shuffled=False, rows=None, **leaves):
    """One global step of verl's trainer and workers in this process; returns the training and its metrics.

    The advantages are GRPO's, except where a recipe brings its own; the reference policy is another one.
    """
    if not any(name in each for each in overrides for name in ESTIMATORS):
        leaves = {"algorithm__adv_estimator": "grpo"} | leaves
    config = harness.configuration(*overrides, **(WHOLE | leaves))
    training = harness.Training(config, monkeypatch, harness.Policy(dtype=torch.float64), ranks, 1.0)
    training.ranks.reference = harness.Policy(seed=5, dtype=torch.float64)
    rows = rollout() if rows is None else rows
    random.Random(7).shuffle(rows) if shuffled else None
    return training, training.step(rows)


def same(one, other):
    """Losses and gradients to the last bit."""
    return one.ranks.losses == other.ranks.losses and all(map(torch.equal, one.ranks.gradients, other.ranks.gradients))
