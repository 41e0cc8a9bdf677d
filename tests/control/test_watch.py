"""When an actuator is reported: at its bound, or with entropy moving against it; and ADAPO's sign in a table."""

import json

import pytest
import torch

from entropo_plugin.control import ActuatorWatch
from entropo_plugin.objectives import adapo


def verdicts(entropies, bounds=None, patience=3, target=1.0):
    watch = ActuatorWatch(patience)
    bounds = bounds or [False] * len(entropies)
    return [watch.observe(entropy, target, bound) for entropy, bound in zip(entropies, bounds, strict=True)]


def test_entropy_that_falls_while_it_should_rise_is_reported_after_three_steps():
    assert verdicts([0.9, 0.8, 0.7, 0.6, 0.5]) == [None, None, None, "against", "against"]
    assert verdicts([1.1, 1.2, 1.3, 1.4]) == [None, None, None, "against"]


def test_entropy_that_comes_nearer_or_crosses_its_target_is_not():
    assert verdicts([0.5, 0.6, 0.55, 0.7, 0.8]) == [None] * 5
    assert verdicts([0.9, 0.8, 1.1, 1.2, 0.7, 0.6]) == [None] * 6
    assert verdicts([1.0] * 9, [True] * 9) == [None] * 9


def test_a_coefficient_at_its_bound_is_reported_and_forgotten_when_it_leaves():
    assert verdicts([0.5, 0.6, 0.7, 0.8, 0.85], [True, True, True, True, False]) == [
        None, None, "bound", "bound", None,
    ]  # fmt: skip


def test_it_resumes_from_json():
    whole, first, second = (ActuatorWatch(3) for _ in range(3))
    entropies = [0.9, 0.8, 0.85, 0.7, 0.5, 0.6, 0.55]
    expected = [whole.observe(entropy, 1.0, entropy < 0.6) for entropy in entropies]
    found = [first.observe(entropy, 1.0, entropy < 0.6) for entropy in entropies[:3]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [second.observe(entropy, 1.0, entropy < 0.6) for entropy in entropies[3:]]
    assert found == expected and second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("entropies", "bound", "verdict", "text"),
    [
        ([0.9, 0.8, 0.6], False, "against", "raised for 2 steps, and entropy moved the other way: from 0.1 to 0.4"),
        ([1.9, 1.8, 1.6], True, "bound", "stood at its bound for 2 steps, and entropy is above its target by 0.6"),
    ],
)
def test_the_warning_says_what_happened_and_what_to_do(entropies, bound, verdict, text):
    watch = ActuatorWatch(2)
    assert [watch.observe(entropy, 1.0, bound) for entropy in entropies][-1] == verdict
    message = watch.describe(verdict, "clip_high", "Use +entropo=repo_neutral.")
    assert text in message and message.startswith("clip_high ") and message.endswith("Use +entropo=repo_neutral.")


def final_entropy(start, high):
    """Four tokens, the rewarded one at ``start``; 60 updates of one batch with A = R - mean R, SGD of .5."""
    old = torch.tensor([start] + [(1 - start) / 3] * 3).double().log()
    advantage = torch.tensor([1.0, 0, 0, 0]).double() - start
    z = old.clone().requires_grad_()
    for _ in range(60):
        loss = adapo(z.log_softmax(0)[None], old[None], advantage[None], torch.ones(1, 4), low=0.2, high=high)
        (gradient,) = torch.autograd.grad((old.exp() * loss).sum(), z)
        z = (z - 0.5 * gradient).detach().requires_grad_()
    logp = z.detach().log_softmax(0)
    return float(-(logp.exp() * logp).sum())


@pytest.mark.parametrize(
    ("start", "tight", "wide"),
    [(0.05, 1.26, 1.38), (0.3, 1.30, 0.25), (0.5, 1.11, 0.29), (0.6, 0.95, 0.32), (0.7, 0.79, 0.35)],
)
def test_a_wide_clip_raises_entropy_for_a_rare_rewarded_token_only(start, tight, wide):
    assert final_entropy(start, 0.05) == pytest.approx(tight, abs=0.006)
    assert final_entropy(start, 5.0) == pytest.approx(wide, abs=0.006)
