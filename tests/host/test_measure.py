import pytest
import torch
from omegaconf import OmegaConf
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta

from entropo_plugin.host import measure


def nested(rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


@pytest.fixture
def batch(monkeypatch):
    """Two responses to one prompt, the second cut at three tokens, and one padding row of verl's."""
    stored = TensorDict(
        {
            "responses": nested([[5, 2], [5, 6, 7], [2]]),
            "response_mask": nested([[1, 1], [1, 0, 1], [0]]),
            "old_log_probs": nested([[-1.0, -2.0], [-3.0, -9.0, -4.0], [-7.0]]),
            "entropy": nested([[1.0, 2.0], [3.0, 9.0, 6.0], [7.0]]),
            "rm_scores": nested([[0.0, 1.0], [0.0, 0.0, 0.0], [0.0]]),
            "uid": NonTensorStack(NonTensorData("a"), NonTensorData("a"), NonTensorData("pad")),
        },
        batch_size=3,
    )
    monkeypatch.setattr(measure.tq, "kv_batch_get", lambda **_: stored)
    tags = [{}, {}, {"is_padding": True}]
    return KVBatchMeta(partition_id="train", keys=["a_0_0", "a_1_0", "pad_0_0"], tags=tags)


def test_the_steps_real_rows(batch):
    tokens = measure.step_tokens(batch, limit=3, end=2)
    assert tokens.uid == ["a", "a"] and tokens.truncated.tolist() == [False, True]
    assert tokens.response_mask.tolist() == [[1, 1, 0], [1, 0, 1]] and tokens.rollout_log_probs is None


def test_the_statistics_by_hand(batch):
    actor = OmegaConf.create(
        {"clip_ratio": 0.2, "clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "strategy": "fsdp2", "fsdp_config": {}}
    )
    metrics, warning = measure.measure(measure.step_tokens(batch, limit=3, end=2), actor)
    assert metrics["entropo/tokens/count"] == 4
    assert metrics["entropo/entropy/token_mean"] == 3.0
    assert metrics["entropo/entropy/truncated"] == 4.5
    assert metrics["entropo/pass_at/1"] == 0.5 and metrics["entropo/pass_at/2"] == 1.0
    assert metrics["entropo/diversity/distinct_right"] == 1.0
    assert warning is None or "entropy_from_logits_with_chunking" in warning


@pytest.mark.parametrize(
    ("actor", "dtype"),
    [
        ({"strategy": "fsdp2", "fsdp_config": {}}, "bfloat16"),
        ({"strategy": "fsdp", "fsdp_config": {"mixed_precision": {"param_dtype": "fp32"}}}, "float32"),
        ({"strategy": "fsdp2", "fsdp_config": {"mixed_precision": None}}, "bfloat16"),
        ({"strategy": "megatron"}, None),
    ],
)
def test_the_logits_dtype_is_the_engines(actor, dtype):
    assert measure.logits_dtype(OmegaConf.create(actor)) == dtype


def test_the_validation_score_is_the_mean_over_sources():
    metrics = {"val-core/a/reward/mean@8": 0.5, "val-core/b/acc/mean@8": 1.0, "val-aux/a/x/mean@8": 9.0}
    assert measure.validation_score(metrics) == 0.75
    assert measure.validation_score({"critic/score/mean": 1.0}) is None
