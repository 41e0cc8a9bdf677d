"""The worker's loss against verl's own, on a real model's log-probs and one optimizer step."""

import copy
import math
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from runs import run_of
from tensordict import NonTensorData, TensorDict
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss

from entropo_plugin.hosts.verl.worker.loss import PAYLOAD, SELECTED, entropo_loss, own_metrics, shaped, tokens_of
from entropo_plugin.hosts.verl.worker.policy_losses import Step
from entropo_plugin.objectives import repo_r

PROMPTS, RESPONSES = [3, 2, 4], [4, 5, 2]


SIDES = ("above_positive", "below_negative", "above_negative", "below_positive", "dual")


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


def told(run, data, chosen=()):
    """The loss of a run's workers, and the micro-batch as the driver sends it to them.

    Args:
        run: its coefficients go with the batch.
        chosen: one boolean row a response, for every method that chooses.
    """
    data[PAYLOAD] = NonTensorData(run.coefficients())
    for method in run.methods:
        if chosen and method.selects:
            data[f"{SELECTED}{method.name}"] = nested(chosen)
    return partial(entropo_loss, methods=run.methods), data


def zeta(initial, **repo):
    """REPO-R with a fixed coefficient."""
    return run_of("repo_r", repo={"zeta": {"law": "fixed", "initial": initial}} | repo)


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
    added = ours[3].keys() - stock[3].keys()
    sides = SIDES[:4] if "policy_loss" in extra else SIDES  # gspo has no dual clip
    assert stock[3].keys() < ours[3].keys() and added == {f"entropo/clip/{side}" for side in sides}


def test_zeta_zero_is_verls_loss_bit_for_bit():
    model, data = Model(), batch()
    stock = one_step(copy.deepcopy(model), partial(ppo_loss, config()), data)
    loss, data = told(zeta(0.0), data)
    ours = one_step(copy.deepcopy(model), partial(loss, config()), data)
    for a, b in zip(stock[:3], ours[:3], strict=True):
        assert torch.equal(a, b)
    assert ours[3]["entropo/shift"].aggregate() == 0.0


def shaped_by(run, output, data):
    """The micro-batch with its advantages as the loss receives them, and the metrics."""
    step = Step(run.methods, run.coefficients(), tokens_of(output, data))
    moved = shaped(step, data)
    return moved, own_metrics(step, config(), output, moved)


def test_repo_r_uses_the_current_log_probs_and_leaves_the_batch_alone():
    model, data = Model(), batch()
    before = [row.clone() for row in data["advantages"].unbind()]
    output = model(data)
    moved, metrics = shaped_by(zeta(0.1), output, data)
    start = 0
    shift, tokens = 0.0, 0
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        current = output["log_probs"][start + prompt - 1 : start + prompt + response - 1].detach()
        expected = repo_r(before[row], current, 0.1)
        assert torch.allclose(moved["advantages"][row, :response], expected, rtol=0, atol=1e-7)
        mask = data["response_mask"][row].bool()
        shift, tokens = shift + float((expected - before[row]).abs()[mask].sum()), tokens + int(mask.sum())
        start += prompt + response
    assert all(torch.equal(a, b) for a, b in zip(before, data["advantages"].unbind(), strict=True))
    assert metrics["entropo/shift"].aggregate() == pytest.approx(shift / tokens, rel=1e-6)


def test_center_adds_the_current_entropy():
    model, data = Model(), batch()
    output = model(data)
    moved, _ = shaped_by(zeta(0.1, center=True), output, data)
    level = (output["log_probs"] + output["entropy"])[PROMPTS[0] - 1 : PROMPTS[0] + RESPONSES[0] - 1].detach()
    expected = repo_r(data["advantages"][0], level, 0.1)
    assert torch.allclose(moved["advantages"][0, : RESPONSES[0]], expected, rtol=0, atol=1e-7)


def test_no_gradient_flows_through_the_shaping():
    model, data = Model(), batch()
    moved, _ = shaped_by(zeta(0.1, center=True), model(data), data)
    assert not moved["advantages"].requires_grad


def with_loss(name, **changes):
    from verl.workers.config import PolicyLossConfig

    return config(policy_loss=PolicyLossConfig(loss_mode=name), **changes)


@pytest.mark.parametrize("name", ["adapo", "vanilla"])
@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"])
def test_adapo_at_its_start_is_verls_vanilla_bit_for_bit(mode, name):
    model, data = Model(), batch()
    clip = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "loss_agg_mode": mode}
    stock = one_step(copy.deepcopy(model), partial(ppo_loss, config(**clip)), data)
    loss, data = told(run_of("adapo", loss=name), data)
    ours = one_step(copy.deepcopy(model), partial(loss, with_loss(name, **clip)), data)
    for a, b in zip(stock[:3], ours[:3], strict=True):
        assert torch.equal(a, b)
    assert 0 <= ours[3]["entropo/clip/above_positive"].aggregate() <= 1


@pytest.mark.parametrize(("name", "word"), [("clip_cov", "dropped"), ("kl_cov", "penalised")])
def test_the_chosen_tokens_arrive_jagged_and_are_counted(name, word):
    door = f"entropo_{name}"
    loss_fn, data = told(run_of(loss=door), batch(), CHOSEN)
    loss, _, _, metrics = one_step(Model(), partial(loss_fn, with_loss(door)), data)
    assert metrics[f"entropo/selection/{word}"].aggregate() == pytest.approx(3 / 10)
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("name", "word", "anneal"), [("kl_cov", "penalised", "anneal_ratio"), ("clip_cov", "dropped", "anneal")]
)
def test_a_ratio_that_has_gone_to_zero_chooses_no_token_in_a_micro_batch(name, word, anneal):
    """Half of ten tokens, then none; verl takes at least one of any ratio above 0."""
    schedule = {"kind": "linear", "end": 0.0, "hold": 0, "steps": 1}
    band = {"low": -100.0, "high": 100.0} if name == "clip_cov" else {}
    own = {"scope": "micro_batch", "ratio": 0.5, anneal: schedule} | band
    run = run_of(loss=f"entropo_{name}", **{name: own})
    for chosen in (0.5, 0.0):
        loss, data = told(run, batch())
        metrics = one_step(Model(), partial(loss, with_loss(f"entropo_{name}")), data)[3]
        assert metrics[f"entropo/selection/{word}"].aggregate() == chosen
        run.loop.updated = True
        run.end_step(1)


CHOSEN = [torch.arange(r) == 1 for r in RESPONSES]


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum"])
@pytest.mark.parametrize("name", ["vanilla", "adapo", "gspo"])
def test_kl_cov_on_another_loss_adds_its_penalty_and_nothing_else(name, mode):
    model, data = Model(), batch()
    below = ["adapo"] if name == "adapo" else []
    plain, data = told(run_of(*below, loss=name), data)
    without, _ = plain(with_loss(name, loss_agg_mode=mode), model(data), data)
    kl_cov = run_of(*below, "kl_cov", loss=name, kl_cov={"beta": 2.0, "penalty": "k2"})
    penalised, data = told(kl_cov, data, CHOSEN)
    output = model(data)
    loss, metrics = penalised(with_loss(name, loss_agg_mode=mode), output, data)
    expected, start = 0.0, 0
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        change = output["log_probs"][start + prompt] - data["old_log_probs"][row][1]
        expected, start = expected + 2.0 * float(change.detach().clamp(-20, 20)) ** 2 / 2, start + prompt + response
    assert float((loss - without).detach()) == pytest.approx(expected / (10 if mode == "token-mean" else 3), rel=1e-5)
    assert metrics["entropo/selection/penalised"].aggregate() == pytest.approx(3 / 10)


def test_a_steps_entropy_coefficient_is_verls_own_with_that_constant_bit_for_bit():
    model, data = Model(), batch()
    stock = one_step(copy.deepcopy(model), partial(ppo_loss, config(entropy_coeff=0.02)), data)
    bonus = run_of(entropy_coeff={"law": "additive", "initial": 0.02})
    (loss, data), settings = told(bonus, data), config(entropy_coeff=0.5)
    ours = one_step(copy.deepcopy(model), partial(loss, settings), data)
    for a, b in zip(stock[:3], ours[:3], strict=True):
        assert torch.equal(a, b)
    assert settings.entropy_coeff == 0.5


@pytest.mark.stock
def test_our_losses_refuse_to_run_under_another_trainer():
    from entropo_plugin.config import ConfigError

    with pytest.raises(ConfigError, match="loss_mode=adapo runs only under our trainer"):
        one_step(Model(), partial(ppo_loss, with_loss("adapo")), batch())


def shares(run, data, output, name="vanilla"):
    """Clip shares of a loss on log-probs that lie ``output`` above pi_old's, per response."""
    loss, data = told(run, data, CHOSEN)
    old = list(data["old_log_probs"].unbind())
    moved = [row + shift for row, shift in zip(old, output, strict=True)]
    # the model's output has the prompt too, and lies one place to the left
    whole = [torch.cat([torch.zeros(p - 1), row, torch.zeros(1)]) for p, row in zip(PROMPTS, moved, strict=True)]
    logp = torch.cat(whole).requires_grad_()
    actor = with_loss(name, clip_ratio_low=0.2, clip_ratio_high=0.28)
    vars(actor.policy_loss)["dro_beta"] = 0.1
    _, metrics = loss(actor, {"log_probs": logp, "entropy": torch.zeros(20)}, data)
    return {
        key.removeprefix("entropo/clip/"): m.aggregate() for key, m in metrics.items() if key.startswith("entropo/clip")
    }


CLIPPED = {"above_positive": 0.4, "above_negative": 0.4, "below_positive": 0.2, "below_negative": 0.0}
UNCLIPPED = ["gpg", "cispo", "sapo", "kl_cov", "dppo_tv", "dppo_kl", "dro"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vanilla", CLIPPED | {"dual": 0.4}), ("entropo_clip_cov", dict.fromkeys(CLIPPED, 0.0)), ("entropo_kl_cov", {})]
    + [(name, CLIPPED) for name in ("clip_cov", "gspo", "geo_mean")]
    + [(name, {}) for name in UNCLIPPED],
)
def test_clip_shares_by_hand_for_every_loss(name, expected):
    """A = 1.5, -.5, .7 on 4, 4 and 2 of 10 tokens; ratios 1.5, 4 and .5; the dual clip is 3, Clip-Cov's clip [0, 9]."""
    run = run_of(loss=name, **({"clip_cov": {"clip_high": 8.0}} if name == "entropo_clip_cov" else {}))
    assert shares(run, batch(), [math.log(1.5), math.log(4.0), math.log(0.5)], name) == pytest.approx(expected)


def test_every_loss_of_verls_has_been_looked_at():
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    from entropo_plugin.methods.registry import losses

    verls = {*POLICY_LOSS_REGISTRY} - {"entropo", *losses()}
    assert verls == {"vanilla", "clip_cov", "gspo", "geo_mean", "bypass_mode", *UNCLIPPED}


@pytest.mark.parametrize("name", ["vanilla", "clip_cov", "gspo", "geo_mean", "gpg", "cispo", "sapo", "kl_cov", "dro"])
def test_what_is_said_to_have_no_gradient_has_none(name):
    """Ratios 1.5, 4 and .5 under each of verl's losses that look at the ratio alone."""
    found = shares(run_of(loss=name), batch(), [math.log(1.5), math.log(4.0), math.log(0.5)], name)
    cut = sum(found.get(side, 0.0) for side in ("above_positive", "below_negative", "dual"))
    assert cut == pytest.approx(gradientless(name))


def gradientless(name):
    """The share of tokens to whose log-prob verl's loss has no gradient."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 1, 1], [1, 1, 0, 0, 0]])
    old = torch.full((3, 5), -2.0)
    logp = (old + torch.tensor([1.5, 4.0, 0.5]).log()[:, None]).requires_grad_()
    advantage = torch.tensor([1.5, -0.5, 0.7])[:, None].expand(3, 5)
    actor = with_loss(name, clip_ratio_low=0.2, clip_ratio_high=0.28)
    vars(actor.policy_loss)["dro_beta"] = 0.1
    vars(actor)["global_batch_info"] = {"dp_size": 1, "batch_num_tokens": 10, "global_batch_size": 3}
    torch.manual_seed(0)
    get_policy_loss_fn(name)(old, logp, advantage, mask, config=actor)[0].backward()
    return float(((logp.grad == 0) & mask.bool()).sum()) / 10


def test_gspo_clips_a_whole_response_and_geo_mean_the_logarithm():
    """Ratios 4, 1/4, 1, 1 have a mean logarithm of 0; log 1.3 = .262 lies below .28, and 1.3 above 1.28."""
    mixed = [torch.tensor([4.0, 0.25, 1.0, 1.0]).log(), 0.0, 0.0]
    assert shares(run_of(loss="gspo"), batch(), mixed, "gspo") == dict.fromkeys(CLIPPED, 0.0)
    assert shares(run_of(), batch(), mixed)["above_positive"] == pytest.approx(0.1)
    near = [math.log(1.3), 0.0, 0.0]
    assert shares(run_of(loss="geo_mean"), batch(), near, "geo_mean")["above_positive"] == 0.0
    assert shares(run_of(), batch(), near)["above_positive"] == pytest.approx(0.4)


@pytest.mark.parametrize(("kind", "expected"), [("ppo_clip", True), ("reinforce", False)])
def test_bypass_mode_is_one_of_two_losses(kind, expected):
    from entropo_plugin.hosts.verl.worker.clip_shares import bounds_in_force

    policy_loss = {"loss_mode": "bypass_mode", "rollout_correction": {"loss_type": kind}}
    actor = {"clip_ratio": 0.2, "clip_ratio_low": None, "clip_ratio_high": 0.28, "policy_loss": policy_loss}
    found = bounds_in_force(OmegaConf.create(actor), None)
    assert found == ({"low": 0.2, "high": 0.28, "dual": 3.0} if expected else None)


def test_clip_shares_use_the_bounds_in_force():
    shifts = [math.log(1.5), math.log(0.9), 0.0]
    wide = {"clip_low": 0.05, "ratio_min": 0.95, "ratio_max": 9.0, "clip_high": {"law": "fixed", "initial": 0.6}}
    found = shares(run_of("adapo", adapo=wide), batch(), shifts, "adapo")
    assert found == pytest.approx({"outer": 0.4} | dict.fromkeys(SIDES, 0.0))
    own = {"clip_low": 0.05, "clip_high": 0.6}
    found = shares(run_of(loss="entropo_clip_cov", clip_cov=own), batch(), shifts, "entropo_clip_cov")
    assert found == pytest.approx(dict.fromkeys(CLIPPED, 0.0) | {"below_negative": 0.4})


def test_clip_shares_take_the_sign_of_the_shaped_advantage():
    """zeta = 1 on certain tokens (log p = 0) leaves A alone; on rare ones it takes the negative advantage to 0."""
    data = batch()
    data["old_log_probs"] = nested(torch.full((r,), -3.0) for r in RESPONSES)
    shifts = [0.0, math.log(0.5), 0.0]
    assert shares(run_of(), data, shifts)["below_negative"] == pytest.approx(0.4)
    assert shares(zeta(1.0), data, shifts)["below_negative"] == 0.0


def test_clip_shares_are_exact_however_the_mini_batch_is_cut():
    shifts = [math.log(1.5), math.log(4.0), math.log(0.5)]
    whole, parts = shares(run_of(), batch(), shifts), dict.fromkeys(SIDES, 0.0)
    for row in range(3):
        data = batch()
        cut = TensorDict({name: nested([data[name][row]]) for name in FIELDS}, batch_size=1)
        for name in ("dp_size", "batch_num_tokens", "global_batch_size"):
            cut[name] = NonTensorData(data[name])
        with_prompt = PROMPTS[row] - 1
        logp = torch.cat([torch.zeros(with_prompt), data["old_log_probs"][row] + shifts[row], torch.zeros(1)])
        actor = config(clip_ratio_low=0.2, clip_ratio_high=0.28)
        _, metrics = entropo_loss(actor, {"log_probs": logp, "entropy": torch.zeros_like(logp)}, cut)
        parts = {side: parts[side] + metrics[f"entropo/clip/{side}"].aggregate() for side in SIDES}
    assert parts == pytest.approx(whole)


FIELDS = ("input_ids", "prompts", "responses", "response_mask", "old_log_probs", "advantages")
