"""verl's FSDP engine around a real transformer, on packed and on padded sequences: our loss and gradients agree."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from runs import run_of
from tensordict import NonTensorData
from test_worker import PROMPTS, RESPONSES, batch, config, nested
from transformers import LlamaConfig, LlamaForCausalLM
from verl.workers.config import PolicyLossConfig
from verl.workers.engine.fsdp import transformer_impl

from entropo_plugin.hosts.verl.worker.loss import PAYLOAD, SELECTED, entropo_loss

ZETA = {"law": "fixed", "initial": 0.05}
# a run, and the actor's settings under it
METHODS = {
    "monitor": (run_of(), {}),
    "repo_r": (run_of("repo_r", repo={"zeta": ZETA}), {}),
    "repo_r_centred": (run_of("repo_r", repo={"zeta": ZETA, "center": True}), {"calculate_entropy": True}),
    "adapo": (run_of("adapo", adapo={"ratio_max": 10.0}), {}),
    "kl_cov": (
        run_of(loss="entropo_kl_cov", kl_cov={"penalty": "k2"}),
        {"policy_loss": PolicyLossConfig(loss_mode="entropo_kl_cov")},
    ),
    "penalty": (run_of("kl_cov", kl_cov={"penalty": "k2"}), {}),
}


@pytest.fixture
def engine(monkeypatch):
    """verl's engine with what its forward step reads; nothing of it is overridden."""
    monkeypatch.setattr(transformer_impl, "get_device_id", lambda: "cpu")
    monkeypatch.setattr(transformer_impl, "get_device_name", lambda: "cpu")
    found = object.__new__(transformer_impl.FSDPEngineWithLMHead)
    found.use_ulysses_sp, found.ulysses_sequence_parallel_size, found.pad_to_length = False, 1, False
    found._autocast_dtype, found.get_data_parallel_group = torch.float32, lambda: None
    chunks = {"entropy_from_logits_with_chunking": True, "entropy_from_logits_chunk_size": 2048}
    found.engine_config = SimpleNamespace(entropy_checkpointing=False, **chunks)
    found.compute_entropy_from_logits = transformer_impl.verl_F.entropy_from_logits_with_chunking
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    found.module = LlamaForCausalLM(LlamaConfig(vocab_size=11, attn_implementation="sdpa", **sizes))
    return found


def step(engine, method, packed):
    """Loss, gradients and metrics of one micro-batch."""
    run, changes = METHODS[method]
    data = batch()
    data["position_ids"] = nested(torch.arange(p + r) for p, r in zip(PROMPTS, RESPONSES, strict=True))
    if run.methods and run.methods[0].selects:
        data[f"{SELECTED}kl_cov"] = nested(torch.arange(r) % 2 == 0 for r in RESPONSES)
    extra = {"use_remove_padding": packed, "temperature": 1.0, "calculate_entropy": True}
    extra[PAYLOAD] = run.coefficients()
    for name, value in extra.items():
        data[name] = NonTensorData(value)
    engine.module.zero_grad()
    loss_function = partial(entropo_loss, config=config(**changes), methods=run.methods)
    loss, found = engine.forward_step(data, loss_function, forward_only=False)
    loss.backward()
    gradients = torch.cat([each.grad.flatten() for each in engine.module.parameters()])
    return float(loss.detach()), gradients, found["model_output"]


@pytest.mark.parametrize("method", METHODS)
def test_packed_sequences_give_the_loss_and_the_gradients_of_padded_ones(method, engine):
    loss, gradients, output = step(engine, method, packed=False)
    loss_too, gradients_too, output_too = step(engine, method, packed=True)
    for name in ("log_probs", "entropy"):
        torch.testing.assert_close(output[name].values(), output_too[name].values(), rtol=1e-5, atol=1e-6)
    assert loss_too == pytest.approx(loss, abs=1e-6)
    assert float(gradients.abs().max()) > 1e-3
    torch.testing.assert_close(gradients, gradients_too, rtol=0, atol=1e-6)
