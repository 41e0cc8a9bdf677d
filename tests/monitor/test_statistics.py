import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.monitor.statistics import StepTokens, covariance_metrics, quantiles, step_metrics

NAN = float("nan")


def test_entropy_worked_by_hand(step):
    found = step_metrics(step)
    # Entropies 1 .5 | 0 2 | 0 .5 | 1.5 2.5 1: 9 tokens that add up to 9; sorted 0 0 .5 .5 1 1 1.5 2 2.5.
    assert found["entropo/tokens/count"] == 9
    assert found["entropo/tokens/nonfinite_share"] == 0
    assert found["entropo/entropy/token_mean"] == 1.0
    assert found["entropo/entropy/peaked_share"] == 2 / 9
    assert found["entropo/entropy/q50"] == 1.0
    assert found["entropo/entropy/q25"] == 0.5
    assert found["entropo/entropy/q75"] == 1.5
    assert found["entropo/entropy/q95"] == pytest.approx(2.3)
    assert found["entropo/entropy/q05"] == 0.0


def test_entropy_of_groups_worked_by_hand(step):
    found = step_metrics(step)
    assert found["entropo/entropy/right"] == 6.5 / 5
    assert found["entropo/entropy/wrong"] == 2.5 / 4
    assert found["entropo/entropy/truncated"] == 0.25


def test_position_counts_the_policys_own_tokens(step):
    found = step_metrics(step)
    # Two tokens: deciles 1 and 6; three: 1, 4 and 7. Row 1's last token is its second.
    assert found["entropo/entropy/decile_1"] == (1 + 0 + 0 + 1.5) / 4
    assert found["entropo/entropy/decile_6"] == (0.5 + 2 + 0.5) / 3
    assert found["entropo/entropy/decile_4"] == 2.5
    assert found["entropo/entropy/decile_7"] == 1.0
    assert "entropo/entropy/decile_2" not in found


def test_log_probs_and_advantages_worked_by_hand(step):
    found = step_metrics(step)
    # Log-probs -1 -2 | -3 -1 | -.5 -.5 | -1 -4 -5: sum -18, squares 57.5.
    assert found["entropo/entropy/sampled_estimate"] == 2.0
    assert found["entropo/logp/std"] == pytest.approx(math.sqrt(57.5 / 9 - 4))
    # Centred 1 0 -1 1 1.5 1.5 1 -2 -3; cubes 1 0 -1 1 3.375 3.375 1 -8 -27 add up to -26.25.
    assert found["entropo/logp/skew"] == pytest.approx(-26.25 / 9 / (21.5 / 9) ** 1.5)
    assert found["entropo/advantage/mean"] == 1 / 9
    assert found["entropo/advantage/std"] == pytest.approx(math.sqrt(1 - 1 / 81))
    assert found["entropo/advantage/abs_mean"] == 1.0
    assert found["entropo/advantage/positive_share"] == 5 / 9
    assert found["entropo/advantage/zero_share"] == 0.0


def test_covariance_worked_by_hand(step):
    found = step_metrics(step)
    # Centred log-probs times A - 1/9: 8/9 of (1 0 1 -2 -3), -10/9 of (-1 1 1.5 1.5).
    by_hand = np.array([8, 0, 10, -10, -15, -15, 8, -16, -24]) / 9
    assert found["entropo/cov/mean"] == pytest.approx(-6 / 9)
    assert found["entropo/cov/q50"] == pytest.approx(np.median(by_hand)) == pytest.approx(-10 / 9)
    assert found["entropo/cov/q98"] == pytest.approx((8 + 0.84 * 2) / 9)


def test_covariance_golden_vector():
    """The same vector and the same numbers as verl's own kl_cov computes on its current log-probs."""
    logp = torch.tensor([[-0.12, -1.8, -0.05, -3.3], [-0.2, -4.5, -0.02, NAN]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    advantage = torch.tensor([[1.5] * 4, [-0.5] * 4])
    tokens = StepTokens(mask, logp, mask, torch.tensor([4, 3]), ["a", "b"], advantages=advantage)
    cov = [1.120408, -0.319592, 1.180408, -1.605306, -1.402449, 3.511837, -1.608163]
    found = covariance_metrics(tokens)
    assert found["entropo/cov/mean"] == pytest.approx(sum(cov) / 7, abs=1e-6)
    assert found["entropo/cov/q50"] == pytest.approx(-0.319592, abs=1e-6)
    assert found["entropo/cov/q99_98"] == pytest.approx(1.180408 + (6 * 0.9998 - 5) * (3.511837 - 1.180408), abs=1e-6)


def test_quantiles_lie_between_order_statistics():
    values = torch.tensor([4.0, 1.0, 2.0, 8.0], dtype=torch.float64)
    found = quantiles(values, {"x/q50": 0.5, "x/q10": 0.1, "x/q95": 0.95})
    assert found == pytest.approx({"x/q50": 3.0, "x/q10": 1.3, "x/q95": 7.4})


def test_a_missing_field_leaves_its_metrics_out(step):
    bare = replace(step, entropy=None, advantages=None, rm_scores=None, truncated=None)
    assert sorted(step_metrics(bare)) == [
        "entropo/diversity/distinct",
        "entropo/diversity/group_size",
        "entropo/entropy/sampled_estimate",
        "entropo/logp/skew",
        "entropo/logp/std",
        "entropo/tokens/count",
        "entropo/tokens/nonfinite_share",
    ]


def test_an_empty_mask_leaves_token_metrics_out(step):
    found = step_metrics(replace(step, response_mask=torch.zeros(4, 3)))
    assert found["entropo/tokens/count"] == 0
    assert not [name for name in found if "/entropy/" in name or "/cov/" in name or "/advantage/" in name]
    assert all(map(math.isfinite, found.values()))


def test_no_responses_at_all():
    none = torch.zeros(0, 4)
    assert step_metrics(StepTokens(none, none, none, torch.zeros(0), [], none, none, none, none)) == {
        "entropo/tokens/count": 0
    }


def test_a_nan_under_the_mask_is_counted_and_left_out(step):
    entropy = step.entropy.clone()
    entropy[3, 1] = NAN  # the entropy of 2.5
    found = step_metrics(replace(step, entropy=entropy))
    assert found["entropo/tokens/nonfinite_share"] == pytest.approx(1 / 9)
    assert found["entropo/entropy/token_mean"] == 6.5 / 8
    assert found["entropo/entropy/sampled_estimate"] == 2.0


def test_sums_are_exact_where_fp32_drifts():
    """The mean of 2^20 copies of fp32 0.1 is that number, to the last bit of fp64's sum."""
    entropy = torch.full((16, 65536), 0.1)
    ones = torch.ones_like(entropy)
    tokens = StepTokens(ones, -entropy, ones, torch.full((16,), 65536), ["a"] * 16, entropy=entropy)
    assert step_metrics(tokens)["entropo/entropy/token_mean"] == pytest.approx(float(entropy[0, 0]), rel=1e-13)


def test_shapes_are_checked(step):
    with pytest.raises(ValueError, match=r"entropy \(4, 2\): expected \(4, 3\)"):
        replace(step, entropy=torch.zeros(4, 2))
    with pytest.raises(ValueError, match="uid"):
        replace(step, uid=["a"])


def drawn(seed: int, rows: int, width: int) -> StepTokens:
    make = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, width, generator=make) < 0.7
    logp = -torch.rand(rows, width, generator=make) * 5
    return StepTokens(
        response_mask=mask,
        old_log_probs=logp,
        responses=torch.randint(0, 3, (rows, width), generator=make),
        response_length=torch.full((rows,), width),
        uid=[str(row // 2) for row in range(rows)],
        entropy=torch.rand(rows, width, generator=make),
        rollout_log_probs=logp + 0.01,
        advantages=torch.randn(rows, 1, generator=make).expand(rows, width).contiguous(),
        rm_scores=(torch.rand(rows, width, generator=make) < 0.2).float(),
        truncated=torch.rand(rows, generator=make) < 0.3,
    )


SHAPES = dict(seed=st.integers(0, 10**6), rows=st.integers(1, 5), width=st.integers(1, 6))
TOKEN_FIELDS = ("old_log_probs", "entropy", "rollout_log_probs", "advantages")


@settings(max_examples=40, deadline=None)
@given(filler=st.sampled_from([NAN, float("inf"), -float("inf"), 1e30]), **SHAPES)
def test_what_lies_outside_the_mask_is_never_read(filler, seed, rows, width):
    tokens = drawn(seed, rows, width)
    dirty = {name: getattr(tokens, name).masked_fill(~tokens.mask, filler) for name in TOKEN_FIELDS}
    found = step_metrics(tokens)
    assert step_metrics(replace(tokens, **dirty)) == found
    assert all(map(math.isfinite, found.values()))


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_more_padding_changes_nothing(seed, rows, width):
    tokens = drawn(seed, rows, width)
    wide = ("response_mask", "responses", "rm_scores", *TOKEN_FIELDS)
    padded = {name: torch.nn.functional.pad(getattr(tokens, name), (0, 3)) for name in wide}
    assert step_metrics(replace(tokens, **padded)) == pytest.approx(step_metrics(tokens), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_the_order_of_responses_changes_nothing(seed, rows, width):
    tokens = drawn(seed, rows, width)
    wide = ("response_mask", "responses", "response_length", "rm_scores", "truncated", *TOKEN_FIELDS)
    turned = {name: getattr(tokens, name).flip(0) for name in wide}
    assert step_metrics(replace(tokens, uid=tokens.uid[::-1], **turned)) == pytest.approx(
        step_metrics(tokens), abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_against_numpy(seed, rows, width):
    tokens = drawn(seed, rows, width)
    values = tokens.entropy.numpy()[tokens.mask.numpy()].astype(np.float64)
    found = step_metrics(tokens)
    if not len(values):
        return
    assert found["entropo/entropy/token_mean"] == pytest.approx(values.mean(), rel=1e-12)
    for level in (5, 25, 50, 75, 95):
        ours = found[f"entropo/entropy/q{level:02d}"]
        assert ours == pytest.approx(np.sort(values)[0] if len(values) == 1 else np.percentile(values, level), rel=1e-9)


def test_a_large_step_takes_a_fraction_of_a_second():
    """64 responses of 8192 tokens, processor time of the best of three."""
    tokens = drawn(0, 64, 8192)
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        step_metrics(tokens)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.5
