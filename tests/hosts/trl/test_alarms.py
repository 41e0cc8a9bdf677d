"""What a run says when its numbers go wrong: the sentences that it says under verl, with TRL's names of settings."""

import logging

import pytest
import torch
from trl_runs import config, model, reward, tokenizer, trainer

pytestmark = pytest.mark.filterwarnings("ignore")


def rollout(prompts, trainer):
    """Four digits a completion, whatever the model says: sampling would refuse what is not finite."""
    drawn = [[3 + (row * 5 + place * 7) % 10 for place in range(4)] for row in range(len(prompts))]
    ids = [tokenizer()(prompt)["input_ids"] for prompt in prompts]
    return {"prompt_ids": ids, "completion_ids": drawn, "logprobs": None}


def said(folder, caplog, entropo=None, scale=1.0, rewards=reward, rollouts=rollout, **changes):
    """Warnings of a training whose model's embeddings, tied to its logits, are scaled."""
    own = model()
    with torch.no_grad():
        own.get_input_embeddings().weight.mul_(scale)
    run = trainer(config(folder, entropo, **changes), model=own, reward_funcs=rewards, rollout_func=rollouts)
    with caplog.at_level(logging.WARNING, logger="entropo_plugin"):
        run.train()
    return [record.getMessage() for record in caplog.records if record.name == "entropo_plugin"]


def test_broken_numbers_are_said_once(tmp_path, caplog):
    sentences = said(tmp_path, caplog, scale=float("nan"), max_steps=3)
    broken = [words for words in sentences if "have a value that is not finite" in words]
    assert len(broken) == 1 and broken[0].startswith("entropo_plugin: step 1: 100.00% of the tokens")
    assert sum("NaN or infinite log-prob in the update" in words for words in sentences) == 1


def test_a_collapse_is_said(tmp_path, caplog):
    sentences = said(tmp_path, caplog, scale=1e4, max_steps=1)
    assert [words for words in sentences if "step 1: entropy has collapsed to" in words]


def test_truncation_and_equal_rewards_are_said_in_trls_words(tmp_path, caplog):
    sentences = said(tmp_path, caplog, rewards=lambda prompts, **unused: [0.1] * len(prompts), max_steps=1)
    cut = "every response was cut at its length limit. Raise max_completion_length."
    assert [words for words in sentences if words == f"entropo_plugin: step 1: {cut}"]
    assert [words for words in sentences if "step 1: all responses to each prompt have the same score" in words]


def ending(prompts, trainer):
    """A completion that ends is not cut."""
    drawn = rollout(prompts, trainer)
    return drawn | {"completion_ids": [[*ids[:3], 1] for ids in drawn["completion_ids"]]}


def test_a_healthy_run_says_nothing(tmp_path, caplog):
    assert said(tmp_path, caplog, {"methods": ["repo_r"]}, scale=10.0, rollouts=ending, max_steps=3) == []


def test_a_method_without_effect_and_a_coefficient_at_its_bound_are_said(tmp_path, caplog):
    # no covariance of this model reaches the band of Clip-Cov's defaults
    sentences = said(tmp_path, caplog, {"methods": ["clip_cov"], "idle_steps": 2}, max_steps=3)
    assert sum("for 2 steps Clip-Cov selected no token" in words for words in sentences) == 1
    low = {"methods": ["repo_r"], "repo": {"zeta": {"initial": -0.05}}, "target": {"fraction": 0.5}, "idle_steps": 2}
    caplog.clear()
    sentences = said(tmp_path, caplog, low, max_steps=3)
    assert [words for words in sentences if "zeta has stood at its bound for 2 steps" in words]
    assert [words for words in sentences if "widen entropo.repo.zeta" in words]
