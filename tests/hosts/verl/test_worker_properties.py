"""The worker's whole loss on any micro-batch: hostile log-probs, tool tokens within, NaN outside the response."""

import math
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import run_of
from tensordict import NonTensorData, TensorDict
from verl.workers.config import FSDPActorConfig, PolicyLossConfig

from entropo_plugin.hosts.verl.metrics.health import Alarms
from entropo_plugin.hosts.verl.worker.loss import BROKEN, PAYLOAD, SELECTED, entropo_loss

REPO_R = {"repo": {"zeta": {"law": "fixed", "initial": 0.05}}}
# methods, the policy loss of the configuration, and settings
CASES = {
    "adapo": (["adapo"], "vanilla", {}),
    "clip_cov": ([], "entropo_clip_cov", {}),
    "kl_cov": ([], "entropo_kl_cov", {"kl_cov": {"penalty": "k3"}}),
    "adapo+repo_r": (["repo_r"], "adapo", REPO_R),
    "kl_cov+repo_r": (["repo_r"], "entropo_kl_cov", {"kl_cov": {"penalty": "k3"}} | REPO_R),
    "adapo+penalty": (["adapo", "kl_cov"], "vanilla", {"kl_cov": {"penalty": "k2"}}),
    "adapo+repo_r+dropping": (["repo_r", "clip_cov"], "adapo", REPO_R),
}
EXTREME = st.sampled_from([-math.inf, -1e4, -30.0, -1.0, -1e-3, 0.0])
OLD = st.sampled_from([-1e4, -30.0, -1.0, -1e-3, 0.0])


def jagged(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


@st.composite
def micro_batches(draw):
    """Rows of (prompt length, and one tuple a response token: mask, current and old log-prob, advantage, chosen)."""
    token = st.tuples(st.booleans(), EXTREME, OLD, st.sampled_from([-2.0, 0.0, 1.5]), st.booleans())
    rows = draw(st.lists(st.tuples(st.integers(1, 3), st.lists(token, min_size=1, max_size=5)), min_size=1, max_size=4))
    return rows, draw(st.sampled_from(["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"]))


def build(rows, run):
    """The TensorDict of a micro-batch, its flat log-probs, and where they predict a response token of the policy."""
    columns = [list(zip(*tokens, strict=True)) for _, tokens in rows]
    masks = [torch.tensor(each[0]) for each in columns]
    hidden = [~mask for mask in masks]
    old, gain = ([torch.tensor(each[n]) for each in columns] for n in (2, 3))
    data = TensorDict(
        {
            "prompts": jagged(torch.ones(length, dtype=torch.int64) for length, _ in rows),
            "responses": jagged(torch.ones(len(mask), dtype=torch.int64) for mask in masks),
            "response_mask": jagged(mask.long() for mask in masks),
            "old_log_probs": jagged(a.masked_fill(b, math.nan) for a, b in zip(old, hidden, strict=True)),
            "advantages": jagged(a.masked_fill(b, 0.0) for a, b in zip(gain, hidden, strict=True)),
            "chosen": jagged(torch.tensor(each[4]) & mask for each, mask in zip(columns, masks, strict=True)),
        },
        batch_size=len(rows),
    )
    count = max(1, sum(int(mask.sum()) for mask in masks))
    scalars = {"dp_size": 1, "batch_num_tokens": count, "global_batch_size": len(rows)}
    scalars[PAYLOAD] = run.coefficients()
    for name, value in scalars.items():
        data[name] = NonTensorData(value)
    chosen = data.pop("chosen")
    for method in run.methods:
        if method.selects:
            data[f"{SELECTED}{method.name}"] = chosen
    flat, seen = [], []
    for (length, _), each, mask in zip(rows, columns, masks, strict=True):
        flat += [math.nan] * (length - 1) + [v if m else math.nan for v, m in zip(each[1], mask, strict=True)]
        flat += [math.inf]
        seen += [False] * (length - 1) + mask.tolist() + [False]
    return data, torch.tensor(flat), torch.tensor(seen)


def case(name, mode="token-mean"):
    """A run and its workers' loss."""
    methods, loss, node = CASES[name]
    run, sizes = run_of(*methods, loss=loss, **node), dict(ppo_micro_batch_size_per_gpu=1, ppo_mini_batch_size=4)
    policy_loss = PolicyLossConfig(loss_mode=loss)
    config = FSDPActorConfig(strategy="fsdp2", rollout_n=1, loss_agg_mode=mode, policy_loss=policy_loss, **sizes)
    return run, partial(entropo_loss, config, methods=run.methods)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(micro_batches())
def test_loss_and_gradient_are_finite_and_only_the_policys_tokens_have_any(name, drawn):
    rows, mode = drawn
    run, loss_of = case(name, mode)
    data, logp, seen = build(rows, run)
    logp.requires_grad_()
    loss, metrics = loss_of(model_output={"log_probs": logp}, data=data)
    loss.backward()
    assert loss.isfinite() and logp.grad.isfinite().all() and not logp.grad[~seen].any()
    # an infinity is bounded in the loss, and told
    lost = int((seen & ~logp.detach().isfinite()).sum())
    assert metrics[BROKEN].aggregate() == pytest.approx(lost / max(1, int(seen.sum())), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_nan_in_a_response_token_reaches_the_loss_and_the_warning(name):
    rows = [(2, [(True, -1.0, -1.0, 1.5, False)] * 3), (1, [(True, -2.0, -1.0, -2.0, False)])]
    run, loss_of = case(name)
    data, logp, _ = build(rows, run)
    logp[1] = math.nan
    loss, metrics = loss_of(model_output={"log_probs": logp}, data=data)
    assert loss.isnan() and metrics[BROKEN].aggregate() == 0.25
    said = Alarms(10).look(7, {BROKEN: 0.25})
    assert said[0].startswith("step 7: 25.00% of the tokens have a NaN or infinite log-prob in the update.")
