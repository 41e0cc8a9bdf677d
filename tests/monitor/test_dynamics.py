import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.monitor.dynamics import (
    ChangeTracker,
    clip_kept,
    dynamics_metrics,
    most_expensive,
    token_change,
    token_records,
)
from entropo_plugin.monitor.tokens import StepTokens
from entropo_plugin.objectives import step_cost

LN2 = math.log(2)
NAN = float("nan")


def one_state(advantage: list[float]) -> StepTokens:
    """A state with p = (1/2, 1/4, 1/4), sampled in exactly those shares: tokens 0 0 1 2. H = 1.5 ln 2."""
    logp = torch.tensor([[-LN2], [-LN2], [-2 * LN2], [-2 * LN2]], dtype=torch.float64)
    ones = torch.ones(4, 1, dtype=torch.float64)
    column = torch.tensor(advantage, dtype=torch.float64)[:, None]
    return StepTokens(ones, logp, ones, ones[:, 0], list("aabb"), entropy=1.5 * LN2 * ones, advantages=column)


def test_worked_by_hand():
    """L = (.5, .5, -.5, -.5) ln 2, A = (1, 1, -1, -1): p A L = (1/4, 1/4, 1/8, 1/8) ln 2."""
    found = dynamics_metrics(one_state([1, 1, -1, -1]))
    assert found == pytest.approx(
        {
            "entropo/dynamics/predicted": -0.1875 * LN2,
            "entropo/dynamics/predicted_natural": -0.5 * LN2,
            "entropo/dynamics/from_positive": -0.125 * LN2,
            "entropo/dynamics/from_negative": -0.0625 * LN2,
            "entropo/dynamics/positive_share": 2 / 3,
            "entropo/dynamics/negative_share": 1 / 3,
            "entropo/dynamics/top_share": 1 / 3,
            "entropo/dynamics/neutral_beta": 2 / LN2,
        }
    )


def test_the_neutral_beta_leaves_entropy_as_it_is():
    tokens = one_state([1, 1, -1, -1])
    beta = dynamics_metrics(tokens)["entropo/dynamics/neutral_beta"]
    level = tokens.old_log_probs + tokens.entropy
    neutral = replace(tokens, advantages=tokens.advantages - beta * level)
    assert dynamics_metrics(neutral)["entropo/dynamics/predicted"] == pytest.approx(0, abs=1e-12)


def test_the_monitor_predicts_what_the_objectives_charge(step):
    cost = step_cost(step.advantages, step.old_log_probs, step.entropy, step.mask)
    assert dynamics_metrics(step)["entropo/dynamics/predicted"] == pytest.approx(-float(cost), rel=1e-12)


def entropy_of(logits: torch.Tensor) -> float:
    logp = logits.log_softmax(-1)
    return -float((logp.exp() * logp).sum())


def state(seed: int, size: int) -> tuple[torch.Tensor, ...]:
    make = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=make, dtype=torch.float64)
    logp = logits.log_softmax(-1)
    advantage = torch.randn(size, generator=make, dtype=torch.float64)
    ratio = torch.exp(0.4 * torch.randn(size, generator=make, dtype=torch.float64))
    return logits, logp, -(logp.exp() * logp).sum(), advantage, ratio


STATES = dict(seed=st.integers(0, 10**6), size=st.integers(2, 12))
ETA = 1e-5


def measured(logits: torch.Tensor, direction: torch.Tensor) -> float:
    return (entropy_of(logits + ETA * direction) - entropy_of(logits - ETA * direction)) / (2 * ETA)


@settings(max_examples=30, deadline=None)
@given(**STATES)
def test_identity_2_a_policy_gradient_step(seed, size):
    logits, logp, entropy, advantage, _ = state(seed, size)
    p = logp.exp()
    centred = advantage - (p * advantage).sum()
    predicted = float((p * token_change(logp, entropy, centred)).sum())
    assert predicted == pytest.approx(measured(logits, p * centred), abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(**STATES)
def test_identity_3_a_natural_gradient_step(seed, size):
    logits, logp, entropy, advantage, _ = state(seed, size)
    p = logp.exp()
    centred = advantage - (p * advantage).sum()
    assert -float((p * centred * (logp + entropy)).sum()) == pytest.approx(measured(logits, advantage), abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(**STATES)
def test_identity_4_one_sampled_action(seed, size):
    """The gradient of A log p(a) on the logits is A (onehot(a) - p)."""
    logits, logp, entropy, advantage, _ = state(seed, size)
    p = logp.exp()
    change = token_change(logp, entropy, advantage, expected=(p * p * (logp + entropy)).sum())
    for action in range(size):
        direction = advantage[action] * (torch.nn.functional.one_hot(torch.tensor(action), size) - p)
        assert float(change[action]) == pytest.approx(measured(logits, direction), abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(**STATES)
def test_identity_6_a_clipped_step(seed, size):
    logits, logp, entropy, advantage, ratio = state(seed, size)
    p, kept = logp.exp(), clip_kept(advantage, ratio, 0.2, 0.28)
    change = token_change(logp, entropy, advantage, expected=(p * p * (logp + entropy)).sum(), kept=kept)
    direction = p * (kept * advantage - (p * kept * advantage).sum())
    assert float((p * change).sum()) == pytest.approx(measured(logits, direction), abs=1e-8)


def test_clip_kept_worked_by_hand():
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0])
    ratio = torch.tensor([1.3, 0.5, 0.7, 1.9, 9.0])
    assert clip_kept(advantage, ratio, 0.2, 0.28).tolist() == [False, True, False, True, True]


def test_top_share_takes_two_in_a_thousand():
    logp = torch.full((1, 1000), -1.0)
    advantage = torch.ones(1, 1000)
    advantage[0, [3, 500]] = 499.0  # p L is the same everywhere: 2 * 499 beside 998
    entropy = torch.full((1, 1000), 2.0)
    tokens = StepTokens(logp < 0, logp, logp, torch.tensor([1000]), ["a"], entropy=entropy, advantages=advantage)
    assert dynamics_metrics(tokens)["entropo/dynamics/top_share"] == pytest.approx(0.5)


def test_no_advantage_moves_nothing(step):
    found = dynamics_metrics(replace(step, advantages=torch.zeros(4, 3)))
    assert found["entropo/dynamics/predicted"] == 0
    assert "entropo/dynamics/top_share" not in found


def test_missing_fields_and_empty_masks(step):
    for bare in (replace(step, entropy=None), replace(step, advantages=None)):
        assert dynamics_metrics(bare) == {}
        assert most_expensive(bare, 3).shape == (0, 2)
        assert token_records(bare, 3) == []
    assert dynamics_metrics(replace(step, response_mask=torch.zeros(4, 3))) == {}
    assert most_expensive(replace(step, response_mask=torch.zeros(4, 3)), 3).shape == (0, 2)


def test_the_most_expensive_tokens_worked_by_hand(step):
    """Row 2's first: -A p L = -(-1) e^-.5 (-.5) = -.303; row 3's first: -e^-1 .5 = -.184; row 1's: -3 e^-3 = -.149."""
    assert most_expensive(step, 2).tolist() == [[2, 0], [3, 0]]
    assert most_expensive(step, 9).tolist() == [[2, 0], [3, 0], [1, 0]]
    first = token_records(step, 1)[0]
    assert first == {
        "uid": "b",
        "row": 2,
        "position": 0,
        "token": 5,
        "log_prob": -0.5,
        "entropy": 0.0,
        "advantage": -1.0,
        "change": pytest.approx(-0.5 * math.exp(-0.5)),
    }
    assert json.loads(json.dumps(token_records(step, 9)))[2]["row"] == 1


def test_equal_tokens_stand_in_order():
    assert most_expensive(one_state([1, 1, -1, -1]), 3).tolist() == [[0, 0], [1, 0], [2, 0]]


def test_tracker_worked_by_hand():
    """Predictions -1, -2, -3 and changes -.1, -.2, -.3: slope .1, correlation 1."""
    tracker = ChangeTracker()
    assert tracker.observe(1, 1.0, -1.0) == {"entropo/dynamics/pairs": 0.0}
    assert tracker.observe(2, 0.9, -2.0)["entropo/dynamics/measured_change"] == pytest.approx(-0.1)
    assert "entropo/dynamics/slope" not in tracker.observe(2, 0.9, -2.0)  # a repeated step makes no pair
    tracker.observe(3, 0.7, -3.0)
    found = tracker.observe(4, 0.4, None)
    assert found == pytest.approx(
        {
            "entropo/dynamics/measured_change": -0.3,
            "entropo/dynamics/pairs": 3.0,
            "entropo/dynamics/correlation": 1.0,
            "entropo/dynamics/slope_in_loop": 0.1,
        }
    )


def test_the_slope_of_a_real_descent_is_its_learning_rate():
    """Forty policy-gradient steps on one state: measured = learning rate x predicted, but for the second order."""
    logits, _, _, advantage, _ = state(3, 6)
    tracker, rate = ChangeTracker(), 0.02
    for step in range(40):
        logp = logits.log_softmax(-1)
        p, entropy = logp.exp(), -(logp.exp() * logp).sum()
        centred = advantage - (p * advantage).sum()
        found = tracker.observe(step, float(entropy), float((p * token_change(logp, entropy, centred)).sum()))
        logits = logits + rate * p * centred
    assert found["entropo/dynamics/pairs"] == 39
    assert found["entropo/dynamics/slope"] == pytest.approx(rate, rel=0.05)
    assert found["entropo/dynamics/correlation"] > 0.999


def closed_loop(seed: int, steps: int = 400, gain: float = 2.4) -> dict[str, float]:
    """A controller answers to the measured entropy, noise included; the true slope is ``gain``."""
    make = torch.Generator().manual_seed(seed)
    noise = 0.05 * torch.randn(steps, generator=make, dtype=torch.float64)
    batch = torch.randn(steps, generator=make, dtype=torch.float64)
    tracker, entropy, drift = ChangeTracker(), 1.0, 0.0
    for step in range(steps):
        measured = entropy + float(noise[step])
        drift = 0.95 * drift + 0.003 * float(batch[step])
        predicted = drift + 0.05 * (1.0 - measured)
        found = tracker.observe(step, measured, predicted)
        entropy += gain * predicted
    return found


def test_the_slope_under_control_is_free_of_the_noise_that_steers():
    """Least squares reads 5.5 to 6.9 where the truth is 2.4."""
    runs = [closed_loop(seed) for seed in range(8)]
    assert all(run["entropo/dynamics/slope_in_loop"] > 5.4 for run in runs)
    slopes = [run["entropo/dynamics/slope"] for run in runs]
    assert sum(slopes) / 8 == pytest.approx(2.4, abs=0.2)
    assert all(1.5 < slope < 3.5 for slope in slopes)


def test_without_a_memory_in_the_predictions_there_is_no_slope():
    make, tracker = torch.Generator().manual_seed(0), ChangeTracker()
    for step in range(100):
        found = tracker.observe(step, 1.0, float(torch.randn(1, generator=make)))
    assert "entropo/dynamics/slope" not in found
    assert found["entropo/dynamics/slope_in_loop"] == 0.0


def test_a_log_prob_of_minus_infinity_changes_nothing_and_stays_in_the_mean(step):
    """Row 0's second token: p A L = 0 in both cases, over 9 tokens; a NaN leaves 8."""
    found = {}
    for value in (-math.inf, -1e4, NAN):
        logp = step.old_log_probs.clone()
        logp[0, 1] = value
        found[value] = dynamics_metrics(replace(step, old_log_probs=logp))["entropo/dynamics/predicted"]
        cost = step_cost(step.advantages, logp, step.entropy, step.mask)
        assert found[value] == pytest.approx(-float(cost), rel=1e-12)
        assert token_change(logp[0, 1].double(), torch.tensor(0.5), torch.tensor(1.0)).isfinite() == (value == value)
    assert found[-math.inf] == found[-1e4]
    whole = dynamics_metrics(step)["entropo/dynamics/predicted"]
    assert found[-math.inf] == pytest.approx(whole + math.exp(-2) * (-2 + 0.5) / 9)
    assert list(found.values())[2] == pytest.approx(found[-math.inf] * 9 / 8)


def test_the_top_share_is_counted_in_whole_numbers():
    """0.2 % of 1,500 tokens are 3, whatever .002 is in binary."""
    logp, advantage = torch.full((1, 1500), -1.0), torch.ones(1, 1500)
    entropy = torch.full((1, 1500), 2.0)
    tokens = StepTokens(logp < 0, logp, logp, torch.tensor([1500]), ["a"], entropy=entropy, advantages=advantage)
    assert dynamics_metrics(tokens)["entropo/dynamics/top_share"] == pytest.approx(3 / 1500)


@pytest.mark.parametrize("entropy", [None, NAN])
def test_tracker_bridges_no_gap(entropy):
    tracker = ChangeTracker()
    tracker.observe(1, 1.0, -1.0)
    assert tracker.observe(2, entropy, -1.0) == {"entropo/dynamics/pairs": 0.0}
    assert tracker.observe(3, 0.5, NAN) == {"entropo/dynamics/pairs": 0.0}
    found = tracker.observe(4, 0.25, -1.0)
    assert found == {"entropo/dynamics/measured_change": -0.25, "entropo/dynamics/pairs": 0.0}


def test_tracker_resumes_from_json():
    whole, resumed = ChangeTracker(), ChangeTracker()
    run = [(1, 1.0, -0.5), (2, 0.8, -0.1), (3, 0.75, -0.3), (4, 0.5, 0.2)]
    for each in run[:2]:
        whole.observe(*each)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert [resumed.observe(*each) for each in run[2:]] == [whole.observe(*each) for each in run[2:]]
    assert resumed.state_dict() == whole.state_dict()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([NAN, float("inf"), 1e30]))
def test_what_lies_outside_the_mask_is_never_read(seed, filler):
    make = torch.Generator().manual_seed(seed)
    mask = torch.rand(3, 5, generator=make) < 0.6
    fields = {name: torch.rand(3, 5, generator=make) for name in ("old_log_probs", "entropy", "advantages")}
    dirty = {name: value.masked_fill(~mask, filler) for name, value in fields.items()}
    clean, filled = (
        StepTokens(response_mask=mask, responses=mask, response_length=mask[:, 0], uid=list("abc"), **each)
        for each in (fields, dirty)
    )
    assert dynamics_metrics(filled) == dynamics_metrics(clean)
    assert torch.equal(most_expensive(filled, 4), most_expensive(clean, 4))
