"""The worker's loss against verl's own, on a real model's log-probs and one optimizer step."""

import copy
from functools import partial

import pytest
import torch
from tensordict import NonTensorData, TensorDict
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss

from entropo_plugin.host.worker import PAYLOAD, entropo_loss, shape
from entropo_plugin.objectives import repo_r

PROMPTS, RESPONSES = [3, 2, 4], [4, 5, 2]


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def batch(seed=0):
    """A micro-batch as verl's V1 trainer hands it to a loss: jagged, with the step's scalars beside it."""
    draw = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(0, 11, (p + r,), generator=draw) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    masks = [torch.ones(r, dtype=torch.int64) for r in RESPONSES]
    masks[1][2] = 0
    data = TensorDict(
        {
            "input_ids": nested(tokens),
            "prompts": nested(t[:p] for t, p in zip(tokens, PROMPTS, strict=True)),
            "responses": nested(t[p:] for t, p in zip(tokens, PROMPTS, strict=True)),
            "response_mask": nested(masks),
            "old_log_probs": nested(-torch.rand(r, generator=draw) * 4 for r in RESPONSES),
            "advantages": nested(torch.full((r,), a) for r, a in zip(RESPONSES, (1.5, -0.5, 0.7), strict=True)),
        },
        batch_size=3,
    )
    scalars = {"dp_size": 1, "batch_num_tokens": sum(int(m.sum()) for m in masks), "global_batch_size": 3}
    for name, value in scalars.items():
        data[name] = NonTensorData(value)
    return data


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(11, 11)

    def forward(self, data):
        ids = data["input_ids"]
        logp = torch.log_softmax(self.table(ids.values()), -1)
        following = torch.roll(ids.values(), -1)
        taken = logp.gather(1, following[:, None])[:, 0]
        entropy = -(logp.exp() * logp).sum(-1)
        return {"log_probs": taken, "entropy": entropy}


def one_step(model, loss_fn, data):
    """Loss, gradients and weights after one AdamW step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss, metrics = loss_fn(model_output=model(data), data=data)
    loss.backward()
    gradient = model.table.weight.grad.clone()
    optimizer.step()
    return loss.detach(), gradient, model.table.weight.detach().clone(), metrics


def config(**changes):
    base = dict(strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=1, ppo_mini_batch_size=3)
    return FSDPActorConfig(**(base | changes))


@pytest.mark.parametrize("payload", [None, {}])
@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"])
@pytest.mark.parametrize("extra", [{}, {"entropy_coeff": 0.01}, {"policy_loss": {"loss_mode": "gspo"}}])
def test_measuring_changes_nothing_bit_for_bit(payload, mode, extra):
    model, data = Model(), batch()
    if "policy_loss" in extra:
        from verl.workers.config import PolicyLossConfig

        extra = {"policy_loss": PolicyLossConfig(**extra["policy_loss"])}
    stock = one_step(copy.deepcopy(model), partial(ppo_loss, config(loss_agg_mode=mode, **extra)), data)
    if payload is not None:
        data[PAYLOAD] = NonTensorData(payload)
    ours = one_step(copy.deepcopy(model), partial(entropo_loss, config(loss_agg_mode=mode, **extra)), data)
    for a, b in zip(stock[:3], ours[:3], strict=True):
        assert torch.equal(a, b)
    assert stock[3].keys() == ours[3].keys()


def test_zeta_zero_is_verls_loss_bit_for_bit():
    model, data = Model(), batch()
    stock = one_step(copy.deepcopy(model), partial(ppo_loss, config()), data)
    data[PAYLOAD] = NonTensorData({"zeta": 0.0, "floor": -20.0, "center": False})
    ours = one_step(copy.deepcopy(model), partial(entropo_loss, config()), data)
    for a, b in zip(stock[:3], ours[:3], strict=True):
        assert torch.equal(a, b)
    assert ours[3]["entropo/shift"].aggregate() == 0.0


def test_repo_r_uses_the_current_log_probs_and_leaves_the_batch_alone():
    model, data = Model(), batch()
    before = [row.clone() for row in data["advantages"].unbind()]
    output = model(data)
    shaped, metrics = shape({"zeta": 0.1, "floor": -20.0, "center": False}, output, data)
    start = 0
    shift, tokens = 0.0, 0
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        current = output["log_probs"][start + prompt - 1 : start + prompt + response - 1].detach()
        expected = repo_r(before[row], current, 0.1)
        assert torch.allclose(shaped["advantages"][row], expected, rtol=0, atol=1e-7)
        mask = data["response_mask"][row].bool()
        shift, tokens = shift + float((expected - before[row]).abs()[mask].sum()), tokens + int(mask.sum())
        start += prompt + response
    assert all(torch.equal(a, b) for a, b in zip(before, data["advantages"].unbind(), strict=True))
    assert metrics["entropo/shift"].aggregate() == pytest.approx(shift / tokens, rel=1e-6)


def test_center_adds_the_current_entropy():
    model, data = Model(), batch()
    output = model(data)
    shaped, _ = shape({"zeta": 0.1, "floor": -20.0, "center": True}, output, data)
    level = (output["log_probs"] + output["entropy"])[PROMPTS[0] - 1 : PROMPTS[0] + RESPONSES[0] - 1].detach()
    assert torch.allclose(shaped["advantages"][0], repo_r(data["advantages"][0], level, 0.1), rtol=0, atol=1e-7)


def test_no_gradient_flows_through_the_shaping():
    model, data = Model(), batch()
    shaped, _ = shape({"zeta": 0.1, "floor": -20.0, "center": True}, model(data), data)
    assert not shaped["advantages"].requires_grad


def with_loss(name, **changes):
    from verl.workers.config import PolicyLossConfig

    return config(policy_loss=PolicyLossConfig(loss_mode=name), **changes)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"])
def test_adapo_at_its_start_is_verls_vanilla_bit_for_bit(mode):
    model, data = Model(), batch()
    clip = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "loss_agg_mode": mode}
    stock = one_step(copy.deepcopy(model), partial(ppo_loss, config(**clip)), data)
    bounds = {"low": 0.2, "high": 0.28, "dual": 3.0, "ratio_bounds": None}
    data[PAYLOAD] = NonTensorData({"adapo": bounds})
    ours = one_step(copy.deepcopy(model), partial(entropo_loss, with_loss("adapo", **clip)), data)
    for a, b in zip(stock[:3], ours[:3], strict=True):
        assert torch.equal(a, b)
    assert 0 <= ours[3]["entropo/clip/above_positive"].aggregate() <= 1


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("entropo_clip_cov", {"ratio": 0.1, "low": 1.0, "high": 5.0, "clip_low": 1.0, "clip_high": 1.0}),
        ("entropo_kl_cov", {"ratio": 0.1, "beta": 1.0, "penalty": "k2"}),
    ],
)
def test_the_chosen_tokens_arrive_jagged_and_are_counted(name, about):
    model, data = Model(), batch()
    data["entropo_selected"] = nested(torch.arange(r) == 1 for r in RESPONSES)
    data[PAYLOAD] = NonTensorData({name: about})
    loss, _, _, metrics = one_step(model, partial(entropo_loss, with_loss(name)), data)
    word = "dropped" if name == "entropo_clip_cov" else "penalised"
    assert metrics[f"entropo/selection/{word}"].aggregate() == pytest.approx(3 / 10)
    assert torch.isfinite(loss)


CHOSEN = [torch.arange(r) == 1 for r in RESPONSES]


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum"])
@pytest.mark.parametrize("name", ["vanilla", "adapo", "gspo"])
def test_kl_cov_on_another_loss_adds_its_penalty_and_nothing_else(name, mode):
    model, data = Model(), batch()
    payload = {"adapo": {"low": 0.2, "high": 0.28, "dual": 3.0, "ratio_bounds": None}}
    data[PAYLOAD], data["entropo_selected"] = NonTensorData(payload), nested(CHOSEN)
    plain, _ = entropo_loss(with_loss(name, loss_agg_mode=mode), model(data), data)
    data[PAYLOAD] = NonTensorData(payload | {"penalty": {"beta": 2.0, "penalty": "k2"}})
    output = model(data)
    loss, metrics = entropo_loss(with_loss(name, loss_agg_mode=mode), output, data)
    expected, start = 0.0, 0
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        change = output["log_probs"][start + prompt] - data["old_log_probs"][row][1]
        expected, start = expected + 2.0 * float(change.detach().clamp(-20, 20)) ** 2 / 2, start + prompt + response
    assert float((loss - plain).detach()) == pytest.approx(expected / (10 if mode == "token-mean" else 3), rel=1e-5)
    assert metrics["entropo/selection/penalised"].aggregate() == pytest.approx(3 / 10)


def test_a_steps_entropy_coefficient_is_verls_own_with_that_constant_bit_for_bit():
    model, data = Model(), batch()
    stock = one_step(copy.deepcopy(model), partial(ppo_loss, config(entropy_coeff=0.02)), data)
    data[PAYLOAD] = NonTensorData({"entropy_coeff": 0.02})
    settings = config(entropy_coeff=0.5)
    ours = one_step(copy.deepcopy(model), partial(entropo_loss, settings), data)
    for a, b in zip(stock[:3], ours[:3], strict=True):
        assert torch.equal(a, b)
    assert settings.entropy_coeff == 0.5


def test_our_losses_refuse_to_run_under_another_trainer():
    from entropo_plugin.config import ConfigError

    with pytest.raises(ConfigError, match="loss_mode=adapo runs only under our trainer"):
        one_step(Model(), partial(ppo_loss, with_loss("adapo")), batch())
