"""What TRL's training becomes: nothing at all under ``monitor``, and what each method says otherwise."""

import math

import pytest
import torch
from trl_runs import (
    NEEDS,
    SETTINGS,
    config,
    data,
    logged,
    model,
    reward,
    saved_model,
    stock,
    tokenizer,
    trained,
    trainer,
    weights,
)

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.trl import EntropoGRPOTrainer
from entropo_plugin.methods.registry import known

# just below log 13, the most that a policy over 13 tokens can have
HIGH = {"kind": "value", "value": 2.56494}
TWICE = {"num_iterations": 2}
CUTS = {
    "accumulated": {"gradient_accumulation_steps": 2},
    "twice": {"gradient_accumulation_steps": 2, "num_iterations": 2},
    "stale": {"gradient_accumulation_steps": 1, "steps_per_generation": 2},
    "many a step": {"gradient_accumulation_steps": 4, "steps_per_generation": 2},
    "reference": {"beta": 0.1, "num_iterations": 2},
}


@pytest.mark.parametrize("changes", CUTS.values(), ids=CUTS)
def test_monitor_gives_stock_weights_bit_for_bit(tmp_path, changes):
    args = config(tmp_path, logging_steps=1, **changes)
    plain = stock(args, model=saved_model(tmp_path, dropout=0.1))
    plain.train()
    run = trainer(config(tmp_path, {}, **changes), model=saved_model(tmp_path, dropout=0.1))
    run.train()
    assert torch.equal(weights(plain), weights(run))
    assert math.isfinite(logged(run, "entropo/entropy/token_mean")[-1])
    assert logged(plain, "loss") == logged(run, "loss")


@pytest.mark.parametrize("name", sorted(known()))
def test_every_method_trains_and_differs_from_stock(tmp_path, name):
    methods = {"methods": [name]} | SETTINGS.get(name, {})
    changes = TWICE | {"max_steps": 4, "learning_rate": 3e-2} | NEEDS.get(name, {})
    plain, run = trained(tmp_path, {}, **changes), trained(tmp_path, methods, **changes)
    assert not torch.equal(weights(plain), weights(run))
    assert weights(run).isfinite().all()
    for coefficient in run.entropo.loop.coefficients:
        assert logged(run, f"entropo/{coefficient}")


@pytest.mark.parametrize("door", ["adapo", "entropo_clip_cov", "entropo_kl_cov"])
def test_a_loss_type_is_a_door_to_a_methods_own_loss(tmp_path, door):
    run = trained(tmp_path, {}, loss_type=door, max_steps=4, **TWICE)
    assert [method.loss_mode for method in run.plan.methods] == [door]
    assert run.plan.methods[0].owns_loss
    assert not logged(run, "clip_ratio/region_mean")
    # KL-Cov's loss has no clip
    assert bool(logged(run, "entropo/clip/above_positive")) == (door != "entropo_kl_cov")


PLAIN = {"clip_low": 0.2, "clip_high": {"law": "fixed", "initial": 0.2}, "clip_ratio_c": 1e6}


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_methods_own_loss_is_normalised_as_trls(tmp_path, loss_type, beta):
    """ADAPO with TRL's own bounds is TRL's loss."""
    changes = dict(loss_type=loss_type, beta=beta, optim="sgd", learning_rate=0.5, max_steps=4)
    changes["use_bias_correction_kl"] = beta > 0
    changes |= {"gradient_accumulation_steps": 2, "steps_per_generation": 4, "per_device_train_batch_size": 4}
    plain = stock(config(tmp_path, **changes), model=saved_model(tmp_path, dropout=0.1))
    plain.train()
    run = trainer(
        config(tmp_path, {"methods": ["adapo"], "adapo": PLAIN}, **changes), model=saved_model(tmp_path, dropout=0.1)
    )
    run.train()
    assert logged(plain, "clip_ratio/region_mean")[-1] > 0
    torch.testing.assert_close(weights(run), weights(plain), rtol=1e-4, atol=1e-5)
    assert logged(run, "loss") == pytest.approx(logged(plain, "loss"), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"])
def test_every_loss_type_takes_shaped_advantages(tmp_path, loss_type):
    plain = trained(tmp_path, loss_type=loss_type)
    run = trained(tmp_path, {"methods": ["repo_r"], "repo": {"zeta": {"initial": 0.05}}}, loss_type=loss_type)
    assert not torch.equal(weights(plain), weights(run))
    assert logged(run, "entropo/shift")[0] > 0
    assert torch.allclose(weights(plain), weights(run), atol=0.02)


def test_a_shape_that_changes_nothing_leaves_stock_weights(tmp_path):
    still = {"methods": ["repo_r"], "repo": {"zeta": {"law": "fixed", "initial": 0.0}}}
    run = trained(tmp_path, still, num_iterations=2)
    assert torch.equal(weights(trained(tmp_path, num_iterations=2)), weights(run))


def test_a_target_that_the_models_vocabulary_cannot_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="entropo.target.value=2.6: 2.6 nats .* over 13 tokens"):
        trainer(config(tmp_path, {"methods": ["repo_r"], "target": {"kind": "value", "value": 2.6}}))


def test_controllers_move_once_a_rollout_batch_and_never_in_evaluation(tmp_path):
    changes = dict(num_iterations=2, max_steps=6, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=8)
    repo = {"methods": ["repo_r"], "repo": {"zeta": {"initial": 0.001}}, "target": HIGH}
    run = trainer(config(tmp_path, repo, **changes), eval_dataset=data(2))
    run.train()
    assert run.rollouts == 3
    # doubled once a rollout batch, of two optimizer steps each
    assert logged(run, "entropo/zeta") == pytest.approx([0.001, 0.002, 0.004])
    assert run.entropo.loop.value("zeta") == pytest.approx(0.008)
    without = trained(tmp_path, repo, **{**changes, "eval_strategy": "no"})
    assert logged(without, "entropo/zeta") == logged(run, "entropo/zeta")


def test_a_step_of_several_rollout_batches_moves_once_for_each(tmp_path):
    run = trained(
        tmp_path,
        {"methods": ["repo_r"], "target": HIGH},
        gradient_accumulation_steps=4,
        steps_per_generation=2,
    )
    assert run.rollouts == 4
    assert run.entropo.loop.value("zeta") == pytest.approx(0.016)


def test_the_base_is_trls_unless_a_setting_of_our_own_is_named(tmp_path):
    theirs = trainer(config(tmp_path, {"methods": ["repo_r"]}))
    ours = trainer(config(tmp_path, {"methods": ["repo_r"], "repo": {"base": "rloo"}}))
    assert "REPO-R on TRL's own advantages" in theirs.plan.in_words()
    assert "REPO-R on leave-one-out advantages" in ours.plan.in_words()
    still = {"zeta": {"law": "fixed", "initial": 0.0}}
    changes = dict(scale_rewards="none", max_grad_norm=0.0, optim="sgd")
    centred = trained(tmp_path, {}, **changes)
    rloo = trained(tmp_path, {"methods": ["repo_r"], "repo": still | {"base": "rloo"}}, **changes)
    # leave-one-out is the centred reward times G / (G - 1)
    assert logged(rloo, "grad_norm")[0] == pytest.approx(logged(centred, "grad_norm")[0] * 4 / 3, rel=1e-3)


def test_a_response_that_nothing_scores_is_in_nobodys_baseline(tmp_path):
    def sometimes(prompts, completions, **unused):
        return [None, *reward(prompts, completions)[1:]]

    args = config(tmp_path, {"methods": ["repo_r"], "repo": {"base": "rloo"}})
    run = trainer(args, reward_funcs=sometimes)
    run.train()
    assert weights(run).isfinite().all()
    assert logged(run, "entropo/advantage/mean")


def test_lora(tmp_path):
    from peft import LoraConfig

    def run(kind, entropo):
        lora = LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.2)
        own = trainer(config(tmp_path, entropo, beta=0.1, num_iterations=2), kind, peft_config=lora)
        own.train()
        return weights(own)

    from trl import GRPOTrainer

    plain = run(GRPOTrainer, {})
    assert torch.equal(plain, run(EntropoGRPOTrainer, {}))
    assert not torch.equal(plain, run(EntropoGRPOTrainer, {"methods": ["repo_neutral"]}))


def test_the_extra_pass_leaves_the_random_state_alone(tmp_path):
    """Model-based REPO that may change nothing, on a model with dropout: stock weights, although it has looked."""
    args = config(tmp_path, {"methods": ["repo_neutral"], "neutral": {"authority": 0.0}})
    run = trainer(args, model=model(dropout=0.2))
    run.train()
    plain = stock(config(tmp_path), model=model(dropout=0.2))
    plain.train()
    assert torch.equal(weights(run), weights(plain))


def rollout(prompts, trainer):
    """Four tokens a completion, of which the environment wrote the third."""
    words = tokenizer()
    ids = [words(prompt)["input_ids"] for prompt in prompts]
    drawn = [[3 + (row * 5 + place * 7) % 10 for place in range(4)] for row in range(len(prompts))]
    return {"prompt_ids": ids, "completion_ids": drawn, "logprobs": None, "env_mask": [[1, 1, 0, 1]] * len(prompts)}


@pytest.mark.filterwarnings("ignore")
def test_tokens_of_tools_are_in_no_statistic(tmp_path):
    run = trainer(config(tmp_path, {"methods": ["top_entropy"]}), rollout_func=rollout)
    run.train()
    assert logged(run, "entropo/tokens/count") == [16 * 3] * 2
    # equal completions to a prompt have equal entropies, which stay together
    assert 0.6 < logged(run, "entropo/selection/share")[0] < 0.8
    assert logged(run, "entropo/selection/dropped") == pytest.approx(logged(run, "entropo/selection/share"))


@pytest.mark.filterwarnings("ignore")
def test_masked_truncated_completions_are_in_no_token_statistic(tmp_path):
    run = trained(tmp_path, {"methods": ["repo_r"]}, mask_truncated_completions=True)
    cut = logged(run, "completions/clipped_ratio")[0]
    assert logged(run, "entropo/tokens/truncated_share")[0] == pytest.approx(cut)
    assert logged(run, "entropo/tokens/count")[0] < logged(trained(tmp_path), "entropo/tokens/count")[0]


def test_scores_count_although_a_truncated_completion_is_masked(tmp_path):
    easy = {"reward_funcs": lambda prompts, **unused: [1.0] * len(prompts)}
    run = trainer(config(tmp_path, mask_truncated_completions=True), **easy)
    run.train()
    assert logged(run, "entropo/pass_at/1") == [1.0, 1.0]


def infinite(prompts, completions, **unused):
    """Four responses to each prompt: 1, -infinity, 0 and none."""
    return [(1.0, -math.inf, 0.0, None)[number % 4] for number in range(len(completions))]


def test_an_infinite_reward_stops_before_the_update_or_is_left_out(tmp_path):
    run = trainer(config(tmp_path), reward_funcs=infinite)
    before = weights(run).clone()
    with pytest.raises(FloatingPointError, match="rollout batch 1: 4 of 16 responses have an infinite reward"):
        run.train()
    assert torch.equal(weights(run), before)
    run = trainer(config(tmp_path, {"nan_reward": "drop"}, max_steps=1), reward_funcs=infinite)
    run.train()
    assert weights(run).isfinite().all() and math.isfinite(logged(run, "loss")[-1])
    # two of four are left, one of them right
    assert logged(run, "entropo/diversity/group_size") == [2.0] and logged(run, "entropo/pass_at/1") == [0.5]


def test_a_rollout_batch_without_any_score_is_measured_as_empty(tmp_path):
    run = trainer(config(tmp_path, max_steps=1), reward_funcs=lambda completions, **_: [None] * len(completions))
    run.train()
    assert logged(run, "entropo/tokens/count") == [0.0] and weights(run).isfinite().all()
