import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropo_plugin.monitor import Sampled, Sessions, StepTokens, step_metrics
from entropo_plugin.monitor.samples import (
    digamma_gap,
    diversity_metrics,
    pass_at_k,
    pass_metrics,
    powers,
    right_entropy_metrics,
)


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n):
    for right in range(n + 1):
        for k in range(1, n + 1):
            draws = list(combinations([i < right for i in range(n)], k))
            assert pass_at_k(n, right, k) == sum(map(any, draws)) / len(draws)


def test_pass_at_k_worked_by_hand():
    assert pass_at_k(4, 1, 2) == 0.5
    assert pass_at_k(5, 2, 2) == 0.7  # 1 - C(3,2)/C(5,2) = 1 - 3/10
    assert pass_at_k(10, 0, 10) == 0.0
    assert pass_at_k(10, 1, 10) == 1.0
    assert pass_at_k(10**6, 1, 1) == 1e-6
    assert pass_at_k(4096, 1, 2048) == 0.5


@settings(deadline=None)
@given(st.integers(1, 64), st.data())
def test_pass_at_k_grows_with_k_and_with_right_answers(n, data):
    right, k = data.draw(st.integers(0, n - 1)), data.draw(st.integers(1, n))
    assert pass_at_k(n, right, k) <= pass_at_k(n, right + 1, k)
    if k < n:
        assert pass_at_k(n, right, k) <= pass_at_k(n, right, k + 1)


def test_pass_at_k_refuses_what_it_cannot_mean():
    with pytest.raises(ValueError, match="1 <= k <= n"):
        pass_at_k(4, 1, 5)


def test_powers_end_at_the_group_size():
    assert [powers(n) for n in (1, 2, 3, 6, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_pass_metrics_worked_by_hand(step):
    assert pass_metrics(step) == {"entropo/pass_at/1": 0.5, "entropo/pass_at/2": 1.0}
    # At threshold .25 row 1, with a score of .5, is right too.
    assert pass_metrics(step, threshold=0.25) == {"entropo/pass_at/1": 0.75, "entropo/pass_at/2": 1.0}


def test_pass_metrics_with_unequal_groups(step):
    uneven = replace(step, uid=["a", "a", "a", "b"])
    # a: 1 of 3 right; b: 1 of 1. pass@2 and pass@3 are a's alone.
    assert pass_metrics(uneven) == pytest.approx(
        {"entropo/pass_at/1": (1 / 3 + 1) / 2, "entropo/pass_at/2": 2 / 3, "entropo/pass_at/3": 1.0}
    )


def test_diversity_worked_by_hand(step):
    assert diversity_metrics(step) == {
        "entropo/diversity/group_size": 2.0,
        "entropo/diversity/distinct": 2.0,
        "entropo/diversity/distinct_right": 1.0,
        "entropo/diversity/mixed_share": 1.0,
        "entropo/diversity/equal_share": 0.0,
    }


def test_responses_are_compared_up_to_their_length(step):
    same = replace(step, response_length=torch.tensor([1, 1, 2, 2]))
    found = diversity_metrics(same)
    assert found["entropo/diversity/distinct"] == 1.0
    # A score beyond a response's length does not count: nobody is right any more.
    assert found["entropo/diversity/distinct_right"] == 0.0
    assert found["entropo/diversity/mixed_share"] == 0.0


def test_lengths_may_come_as_floats(step):
    floats = replace(step, response_length=step.response_length.float())
    assert diversity_metrics(floats) == diversity_metrics(step)
    assert pass_metrics(floats) == pass_metrics(step)


def scored(scores, uid, tokens=1, logp=-1.0, sessions=None, entropy=1.0):
    """Responses of ``tokens`` different tokens each with these scores."""
    rows = len(scores)
    full = torch.ones(rows, tokens)
    reward = torch.zeros(rows, tokens)
    reward[:, -1] = torch.tensor(scores)
    return StepTokens(
        response_mask=full,
        old_log_probs=full * logp,
        responses=torch.arange(rows * tokens).view(rows, tokens),
        response_length=torch.full((rows,), tokens),
        uid=list(uid),
        entropy=full * entropy,
        advantages=torch.ones(rows, tokens),
        rm_scores=reward,
        truncated=torch.zeros(rows, dtype=torch.bool),
        sessions=sessions,
    )


KEYS = ["p_0_0", "p_0_1", "p_0_2", "p_0_3", "p_1_0", "p_2_0", "p_3_0"]


def split_session():
    """One prompt, four sessions; session 0 is right and in four rows, to which the host copies its reward."""
    return scored([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0], "ppppppp", sessions=Sessions.of_keys(KEYS))


def test_a_session_of_several_rows_is_one_response():
    found = step_metrics(split_session())
    assert found["entropo/diversity/group_size"] == 4
    assert found["entropo/diversity/distinct"] == 4
    assert found["entropo/diversity/distinct_right"] == 1
    assert found["entropo/diversity/right_responses"] == 1
    assert found["entropo/pass_at/1"] == 0.25
    assert found["entropo/pass_at/2"] == 0.5
    assert found["entropo/tokens/count"] == 7


def test_the_last_output_speaks_for_its_session():
    """Only the last of four rows carries the reward, and only it was cut; rows stand in any order."""
    scores = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    keys = ["p_0_0", "p_0_10", "p_0_2", "p_0_9", "p_1_0", "p_2_0", "p_3_0"]
    tokens = scored(scores, "ppppppp", sessions=Sessions.of_keys(keys))
    tokens = replace(tokens, truncated=torch.tensor([0, 1, 0, 0, 0, 0, 0]).bool())
    tokens = replace(tokens, entropy=torch.tensor([[4.0], [1.0], [3.0], [2.0], [0.5], [0.5], [0.5]]))
    found = step_metrics(tokens)
    assert found["entropo/pass_at/1"] == 0.25
    assert found["entropo/tokens/truncated_share"] == 0.25
    assert found["entropo/entropy/right"] == found["entropo/entropy/truncated"] == 2.5
    assert found["entropo/entropy/wrong"] == 0.5
    # in order of output the session's entropies are 4 3 2 1: four tokens lie in deciles 1, 3, 6 and 8
    assert found["entropo/entropy/decile_1"] == (4.0 + 0.5 * 3) / 4
    assert [found[f"entropo/entropy/decile_{i}"] for i in (3, 6, 8)] == [3.0, 2.0, 1.0]


def test_a_broken_token_of_a_session_leaves_its_decile():
    keys = ["p_0_1", "p_0_0"]
    tokens = scored([0.0, 0.0], "pp", sessions=Sessions.of_keys(keys))
    tokens = replace(tokens, entropy=torch.tensor([[2.0], [float("nan")]]))
    found = step_metrics(tokens)
    assert found["entropo/entropy/decile_6"] == 2.0 and "entropo/entropy/decile_1" not in found


def test_sessions_must_name_every_row():
    with pytest.raises(ValueError, match="sessions of 7 rows: expected 2"):
        scored([0.0, 1.0], "pp", sessions=Sessions.of_keys(KEYS))


KEPT = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]  # two prompts of four: one and two right


def test_a_filtered_batch_is_counted_with_what_was_filtered():
    """8 prompts x 4: three all right, three all wrong, two mixed with 1 and 2 right."""
    tokens, sampled = scored(KEPT, "aaaabbbb"), Sampled({1.0: 3, 0.0: 3}, responses=4)
    found = step_metrics(tokens, sampled=sampled)
    assert found["entropo/pass_at/1"] == 0.46875
    assert found["entropo/pass_at/4"] == 0.625
    assert found["entropo/diversity/mixed_share"] == 0.25
    assert found["entropo/diversity/equal_share"] == 0.75
    assert found["entropo/kept/prompt_share"] == 0.25
    assert found["entropo/kept/group_size"] == 4 and found["entropo/kept/distinct_right"] == 1.5
    assert found["entropo/kept/right_responses"] == 3
    absent = ("diversity/group_size", "diversity/distinct", "diversity/distinct_right", "entropy/right_answers")
    assert not {f"entropo/{name}" for name in absent} & set(found)


def test_mixed_prompts_that_were_thrown_away_unread_count_as_the_kept_ones_do():
    """Two more mixed prompts: pass@1 = (4 x .375 + 3) / 10."""
    sampled = Sampled({1.0: 3, 0.0: 3}, surplus=2, responses=4)
    found = step_metrics(scored(KEPT, "aaaabbbb"), sampled=sampled)
    assert found["entropo/pass_at/1"] == pytest.approx(0.45)
    assert found["entropo/diversity/mixed_share"] == pytest.approx(0.4)
    assert found["entropo/kept/prompt_share"] == 0.2


def test_scores_that_are_not_known_leave_the_names_of_everything_out():
    found = step_metrics(scored(KEPT, "aaaabbbb"), sampled=Sampled(None))
    names = [name for name in found if "pass_at" in name or "diversity" in name or "prompt_share" in name]
    assert names == []
    assert found["entropo/kept/distinct"] == 4


def test_the_entropy_of_the_right_answers_worked_by_hand():
    """Two of four right, two tokens each with log p = -1: (2 x 2 - 2 (1/2 + 1/3)) / 4; a prompt without any is out."""
    tokens = scored([1.0, 1.0, 0.0, 0.0, 0.0], "aaaab", tokens=2)
    found = right_entropy_metrics(tokens)
    assert found["entropo/entropy/right_answers"] == pytest.approx((4 - 2 * (1 / 2 + 1 / 3)) / 4)
    assert found["entropo/diversity/right_responses"] == 2
    assert digamma_gap(2, 4) == pytest.approx(5 / 6) and digamma_gap(4, 4) == 0 and digamma_gap(0, 4) == 0
    assert right_entropy_metrics(scored([0.0, 0.0], "aa")) == {"entropo/diversity/right_responses": 0.0}


def test_the_entropy_of_the_right_answers_is_that_of_their_distribution():
    """73 equally likely right answers of four tokens, 60 % right: log(73) / 4 = 1.0726 nats per token."""
    make = torch.Generator().manual_seed(0)
    right = (torch.rand(4000, generator=make) < 0.6).double()
    logp = math.log(0.6 / 73) / 4
    tokens = scored(right.tolist(), [str(i // 16) for i in range(4000)], tokens=4, logp=logp)
    assert right_entropy_metrics(tokens)["entropo/entropy/right_answers"] == pytest.approx(1.0726, abs=0.005)


def test_a_broken_log_prob_leaves_the_entropy_of_the_right_answers():
    tokens = scored([1.0, 1.0], "aa", tokens=2)
    logp = tokens.old_log_probs.clone()
    logp[0, 0] = -math.inf
    assert right_entropy_metrics(replace(tokens, old_log_probs=logp))["entropo/entropy/right_answers"] == 1.0
