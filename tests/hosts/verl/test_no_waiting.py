"""Nothing of ours waits for the device inside the micro-batch loop.

On ``meta`` tensors every ``.item()``, ``.tolist()``, ``bool(tensor)`` and shape that depends on values raises.
verl's own waits (its unpadding, ``.item()`` in its metrics, ``vanilla``) are put aside: they are not what is tested.
"""

import pickle

import pytest
import torch
from runs import run_of
from tensordict import NonTensorData, TensorDict
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import FSDPActorConfig
from verl.workers.utils import losses, padding

from entropo_plugin.hosts.verl.worker import policy_losses
from entropo_plugin.hosts.verl.worker.late_metric import LateMetric
from entropo_plugin.hosts.verl.worker.layout import padded_boolean, responses_of
from entropo_plugin.hosts.verl.worker.loss import PAYLOAD, SELECTED, entropo_loss
from entropo_plugin.methods.base import Tokens
from entropo_plugin.methods.registry import known
from entropo_plugin.pipeline import prepare_batch

TARGET = {"target": {"kind": "value", "value": 1.0}}
NEEDS = {
    "stare": TARGET,
    "entropy_range": {"entropy_range": {"low": 0.1, "high": 0.2}},
    "entropic": {"entropic": {"probability": 0.5}},
}
# Chosen within a micro-batch as verl does it, on the host: for comparison only.
MICRO = {"clip_cov": {"clip_cov": {"scope": "micro_batch"}}, "kl_cov": {"kl_cov": {"scope": "micro_batch"}}}


def on_meta(lengths, dtype=torch.float32):
    """Jagged, with its longest row known, as it comes from rows of known length."""
    values, offsets = (
        torch.zeros(sum(lengths), dtype=dtype, device="meta"),
        torch.zeros(4, dtype=torch.int64).to("meta"),
    )
    return torch.nested.nested_tensor_from_jagged(values, offsets, min_seqlen=min(lengths), max_seqlen=max(lengths))


def micro_batch(run):
    prompts, responses = [3, 2, 4], [4, 5, 2]
    floats = {name: on_meta(responses) for name in ("old_log_probs", "advantages", "ref_log_prob")}
    whole = {name: on_meta(responses, torch.int64) for name in ("responses", "response_mask")}
    chosen = {f"{SELECTED}{each.name}": on_meta(responses, torch.bool) for each in run.methods if each.selects}
    data = TensorDict({"prompts": on_meta(prompts, torch.int64)} | floats | whole | chosen, batch_size=3)
    for name, value in {"dp_size": 1, "batch_num_tokens": 11, "global_batch_size": 3}.items():
        data[name] = NonTensorData(value)
    data[PAYLOAD] = NonTensorData(run.coefficients())
    return data


def rollout_batch():
    """Two responses of two tokens on the CPU, for the driver's part."""
    logp, advantage = torch.full((2, 2), -0.5), torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    keys, group = ["a", "b"], torch.tensor([0, 0])
    mask, entropy = torch.ones(2, 2, dtype=torch.int64), torch.full((2, 2), 1.0)
    return Tokens(logp, mask, logp, advantage, entropy, ref_log_prob=logp, keys=keys, group=group)


def plain(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config, rollout_is_weights):
    """Stands for verl's losses, whose metrics wait for the device."""
    loss = -advantages * torch.exp(log_prob - old_log_prob)
    return policy_losses.aggregate(loss, response_mask, loss_agg_mode, config), {}


@pytest.fixture
def verl_without_waiting(monkeypatch):
    monkeypatch.setattr(losses, "no_padding_2_padding", lambda values, data: responses_of(values, data, 5))
    monkeypatch.setattr(losses, "Metric", LateMetric)
    taken = losses.get_policy_loss_fn
    monkeypatch.setattr(losses, "get_policy_loss_fn", lambda name: plain if name == "vanilla" else taken(name))


@pytest.mark.parametrize("method", sorted(known()))
def test_a_micro_batch_never_waits_for_the_device(method, verl_without_waiting):
    run = run_of(method, entropy=1.0, estimator="grpo", **NEEDS.get(method, {}))
    prepare_batch(run, rollout_batch())
    logp = torch.zeros(20, device="meta", requires_grad=True)
    output = {"log_probs": logp, "entropy": torch.zeros(20, device="meta")}
    config = FSDPActorConfig(strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=1, ppo_mini_batch_size=3)
    loss, metrics = entropo_loss(config, output, micro_batch(run), methods=run.methods)
    loss.backward()
    assert loss.shape == () and logp.grad.shape == (20,)
    assert {"entropo/nonfinite/log_probs", "entropo/clip/above_positive"} <= metrics.keys()


@pytest.mark.parametrize("method", sorted(MICRO))
def test_meta_tensors_notice_a_wait(method, verl_without_waiting):
    run = run_of(method, entropy=1.0, loss=f"entropo_{method}", **MICRO[method])
    data = micro_batch(run)
    output = {"log_probs": torch.zeros(20, device="meta")}
    config = FSDPActorConfig(strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=1, ppo_mini_batch_size=3)
    with pytest.raises((RuntimeError, NotImplementedError)):
        entropo_loss(config, output, data, methods=run.methods)


def test_responses_are_what_verl_cuts_out():
    lengths = [3, 2, 4], [4, 5, 2]
    prompts, responses = ([torch.zeros(n, dtype=torch.int64) for n in each] for each in lengths)
    jagged = [torch.nested.as_nested_tensor(each, layout=torch.jagged) for each in (prompts, responses)]
    data = TensorDict({"prompts": jagged[0], "responses": jagged[1]}, batch_size=3)
    flat = torch.arange(20.0)
    ours = responses_of(flat, data, 5)
    assert torch.equal(ours, padding.no_padding_2_padding(flat, data))
    assert ours.tolist() == [[2, 3, 4, 5, 0], [8, 9, 10, 11, 12], [17, 18, 0, 0, 0]]


def test_booleans_are_padded_with_false():
    rows = [torch.tensor([True, False]), torch.tensor([True, True, True])]
    nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    assert padded_boolean(nested, 4).tolist() == [[True, False, False, False], [True, True, True, False]]


def test_a_late_metric_is_verls_metric_with_the_numbers_fetched_at_the_end():
    late = LateMetric("sum", torch.tensor(0.25))
    gathered = late.init_list()
    gathered.append(late)
    gathered.append(Metric("sum", 0.5))
    assert isinstance(gathered._late[0], torch.Tensor)
    travelled = pickle.loads(pickle.dumps(gathered))
    assert type(travelled) is Metric and travelled.values == [0.25, 0.5]
    assert gathered.aggregate() == 0.75 and gathered.aggregation == AggregationType.SUM
    assert Metric.aggregate_dp([gathered, travelled]) == 0.75
