import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.monitor.precision import KEY, bf16_share, entropy_error, mismatch_metrics, precision_report
from entropo_plugin.monitor.tokens import StepTokens

NAN = float("nan")


def test_bf16_share_worked_by_hand():
    # -0.5 and -3.0 are on the grid, -0.3 and -0.1 in fp32 are not; zero, -0.001 and what is not finite do not count.
    assert bf16_share(torch.tensor([-0.5, -3.0, -0.3, -0.1, 0.0, -0.001, NAN, -math.inf])) == 0.5
    assert bf16_share(torch.tensor([0.0, 0.0])) is None
    assert bf16_share(torch.zeros(0)) is None


def test_bf16_share_sees_through_a_later_cast():
    values = -torch.rand(4096, generator=torch.Generator().manual_seed(0)) - 0.02
    assert bf16_share(values) < 0.01
    assert bf16_share(values.bfloat16()) == 1.0
    assert bf16_share(values.bfloat16().float()) == 1.0
    assert bf16_share(values.half().float()) < 0.3


def test_bf16_share_of_honest_fp32_log_probs_near_zero():
    """log_softmax of logits near 30 leaves few bits in small log-probs; these must not pass for bf16."""
    logits = torch.randn(512, 64, generator=torch.Generator().manual_seed(1)) * 8 + 30
    best = (logits - logits.logsumexp(-1, keepdim=True)).amax(-1)
    assert bf16_share(best) < 0.1


def with_ratios(step, ratios):
    """The step with log-probs such that pi_old / pi_rollout has these values on row 3 and is 1 elsewhere."""
    rollout = step.old_log_probs.double().clone()
    rollout[3] -= torch.tensor(ratios, dtype=torch.float64).log()
    return replace(step, old_log_probs=step.old_log_probs.double(), rollout_log_probs=rollout)


def test_mismatch_worked_by_hand(step):
    """Nine tokens; on three the ratio is 1.5, .5 and 1."""
    found = mismatch_metrics(with_ratios(step, [1.5, 0.5, 1.0]))
    assert found == pytest.approx(
        {
            "entropo/mismatch/abs_mean": (0.405465 + 0.693147) / 9,
            "entropo/mismatch/abs_max": 0.693147,
            "entropo/mismatch/k1": 0.287682 / 9,
            "entropo/mismatch/k3": 0.287682 / 9,
            "entropo/mismatch/ratio_bias": 0.0,
            "entropo/mismatch/clip_low_share": 1 / 9,
            "entropo/mismatch/clip_high_share": 1 / 9,
        },
        abs=1e-6,
    )


def test_the_clip_bounds_are_the_losss_own(step):
    found = mismatch_metrics(with_ratios(step, [1.25, 1.3, 0.75]), clip=(0.3, 0.28))
    assert found["entropo/mismatch/clip_high_share"] == 1 / 9
    assert found["entropo/mismatch/clip_low_share"] == 0


def test_a_loss_that_clips_no_ratio_has_no_clip_shares(step):
    found = mismatch_metrics(with_ratios(step, [1.25, 1.3, 0.75]), clip=None)
    assert not [name for name in found if "clip" in name] and len(found) == 5


def test_a_token_that_the_trainer_thinks_impossible_counts_as_one_of_ten_thousand_nats(step):
    """Row 3's first token: d is clamped to -20 in both cases; where both sides say -inf it is 0; a NaN leaves."""
    found = {}
    for value in (-math.inf, -1e4, NAN):
        logp = step.old_log_probs.clone()
        logp[3, 0] = value
        found[value] = mismatch_metrics(replace(step, old_log_probs=logp, rollout_log_probs=step.old_log_probs))
    assert found[-math.inf] == found[-1e4]
    assert found[-math.inf]["entropo/mismatch/abs_mean"] == pytest.approx(20 / 9)
    assert list(found.values())[2]["entropo/mismatch/abs_max"] == 0
    logp = step.old_log_probs.clone()
    logp[3, 0] = -math.inf
    both = mismatch_metrics(replace(step, old_log_probs=logp, rollout_log_probs=logp))
    assert both["entropo/mismatch/abs_max"] == 0


def test_no_mismatch_is_zero(step):
    assert set(mismatch_metrics(with_ratios(step, [1, 1, 1])).values()) == {0.0}


def test_an_absurd_mismatch_stays_finite(step):
    found = mismatch_metrics(replace(step, rollout_log_probs=torch.full((4, 3), -1e4)))
    assert found["entropo/mismatch/abs_max"] == 20
    assert all(map(math.isfinite, found.values()))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_k3_is_k1_plus_the_ratios_bias(shift):
    old = torch.full((1, 3), -4.0, dtype=torch.float64)
    rollout = old - torch.tensor([shift], dtype=torch.float64)
    found = mismatch_metrics(StepTokens(old < 0, old, old, torch.tensor([3]), ["a"], rollout_log_probs=rollout))
    k1, k3, bias = (found[f"entropo/mismatch/{name}"] for name in ("k1", "k3", "ratio_bias"))
    assert k3 == pytest.approx(k1 + bias, abs=1e-12)
    assert k3 >= 0


def test_missing_fields_and_empty_masks(step):
    assert mismatch_metrics(step) == {}
    assert mismatch_metrics(with_ratios(replace(step, response_mask=torch.zeros(4, 3)), [1, 1, 1])) == {}
    empty = precision_report(replace(step, response_mask=torch.zeros(4, 3), entropy=None))
    assert (empty.metrics, empty.warning) == ({}, None)


def test_entropy_error_is_the_measured_one():
    assert entropy_error("bfloat16", "bfloat16") == 0.074
    assert entropy_error("bfloat16", "float32") == 0.036
    assert entropy_error("float16", "float16") is None


def test_report_names_dtypes(step):
    report = precision_report(replace(step, entropy=step.entropy.bfloat16()))
    assert report.dtypes == {"old_log_probs": "float32", "entropy": "bfloat16"}
    assert report.metrics["entropo/precision/entropy_bf16_share"] == 1.0
    assert "entropo/precision/entropy_error_rms" not in report.metrics


def fine(step, factor=1.0):
    """Entropies that no bf16 number equals."""
    return replace(step, entropy=step.entropy * factor + 0.0101)


def test_the_warning_names_the_key_when_it_matters(step):
    report = precision_report(fine(step), logits="bfloat16")
    assert f"Set {KEY}=true" in report.warning
    assert report.metrics["entropo/precision/entropy_error_rms"] == 0.074


def test_no_warning_when_it_does_not_matter(step):
    chunked = precision_report(fine(step), logits="bfloat16", chunked=True)
    assert chunked.warning is None
    assert chunked.metrics["entropo/precision/entropy_error_rms"] == 0.036
    assert precision_report(fine(step), logits="float32").warning is None
    assert precision_report(fine(step)).warning is None
    # A mean entropy of 2 nats stands well above the error.
    assert precision_report(fine(step, factor=2.0), logits="bfloat16").warning is None


def test_rounded_entropies_are_noticed_although_nobody_named_a_dtype(step):
    rounded = replace(step, entropy=fine(step).entropy.bfloat16().float())
    assert f"Set {KEY}=true" in precision_report(rounded).warning
    assert "ignores it" in precision_report(rounded, chunked=True).warning


def test_the_warning_promises_what_remains_with_the_key(step):
    """.074 nats rms in bf16; .036 remain in fp32, because the logits are bf16 still."""
    warning = precision_report(fine(step), logits="bfloat16").warning
    assert "off by about 0.074 nats rms" in warning and "In fp32 about 0.036 remain" in warning


def test_off_policy_tokens_on_the_grid_by_chance_are_no_rounding(step):
    """Half of the entropies on the bf16 grid: a share of .5 is not the 1.000 that rounding leaves."""
    half = fine(step).entropy.clone()
    half[3] = half[3].bfloat16().float()
    report = precision_report(replace(step, entropy=half))
    assert 0.3 < report.metrics["entropo/precision/entropy_bf16_share"] < 0.6
    assert report.warning is None
