"""One set of tokens a step, for control and every statistic: after rejection, without values that are not finite."""

import math

import pytest
import torch
from driver_step import PROMPT, driver, one_step, sampled

REJECTION = [
    "algorithm.rollout_correction.rollout_rs=seq_max_k2",
    "algorithm.rollout_correction.rollout_rs_threshold=1",
]
KEYS = ["p0_0_0", "p1_0_0"]
# the controller's target is the first entropy that it sees
REPO_R = ["+entropo=repo_r", "entropo.repo.zeta.initial=0.01"]


class Forward:
    """The actor's forward pass with given entropies; pi_old is the rollout's policy but for the rejected row."""

    def __init__(self, workers, entropy, rejected=()):
        self.workers, self.entropy, self.rejected = workers, entropy, rejected

    def __getattr__(self, name):
        return getattr(self.workers, name)

    def compute_log_prob(self, batch):
        self.workers.compute_log_prob(batch)
        for key in batch.keys:
            row = self.workers.queue.rows[key]
            row["entropy"][PROMPT - 1 : -1] = torch.tensor(self.entropy[key])
            if key in self.rejected:
                row["log_probs"] = row["log_probs"] - 5
        return batch


@pytest.fixture
def run(monkeypatch):
    def make(entropy, *overrides, rejected=()):
        """Two prompts with one response of three tokens each."""
        trainer, queue = driver(sampled(2, 1, 3, full=True), *REPO_R, *overrides)
        queue.install(monkeypatch)
        trainer.actor_rollout_wg = Forward(trainer.actor_rollout_wg, entropy, rejected)
        return trainer, one_step(trainer)

    return make


FLAT = {"p0_0_0": [3.0] * 3, "p1_0_0": [1.0] * 3}


def test_a_rejected_row_counts_nowhere(run):
    trainer, metrics = run(FLAT, *REJECTION, rejected=KEYS[:1])
    assert metrics["entropo/entropy/token_mean"] == metrics["entropo/entropy/q50"] == 1.0
    assert metrics["entropo/tokens/count"] == 3
    assert metrics["entropo/target"] == trainer.entropo.loop.target.initial == trainer.entropo.loop.entropy == 1.0


def test_without_rejection_both_rows_count_everywhere(run):
    trainer, metrics = run(FLAT, *REJECTION)
    assert metrics["entropo/entropy/token_mean"] == metrics["entropo/entropy/q50"] == 2.0
    assert metrics["entropo/tokens/count"] == 6 and trainer.entropo.loop.target.initial == 2.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_broken_token_freezes_no_control_and_is_said(run, value):
    """Means over the five others: (3 + 3 + 1 + 1 + 1) / 5."""
    trainer, metrics = run(FLAT | {"p0_0_0": [3.0, value, 3.0]})
    assert metrics["entropo/entropy/token_mean"] == pytest.approx(1.8, rel=1e-6)
    assert metrics["entropo/target"] == trainer.entropo.loop.entropy == metrics["entropo/entropy/token_mean"]
    assert metrics["entropo/tokens/nonfinite_share"] == pytest.approx(1 / 6)
    assert "entropo/skipped" not in metrics and "entropo/zeta_next" in metrics


def test_when_every_entropy_is_broken_control_stands_still_and_says_so(run):
    trainer, metrics = run(dict.fromkeys(KEYS, [math.nan] * 3))
    assert metrics["entropo/skipped"] == 1.0 and metrics["entropo/tokens/nonfinite_share"] == 1.0
    assert "entropo/entropy/token_mean" not in metrics and trainer.entropo.loop.target.initial is None


@pytest.mark.parametrize("logp", [math.nan, -math.inf])
def test_a_broken_log_prob_takes_nothing_from_the_entropy(run, logp, monkeypatch):
    """A statistic leaves out the tokens at which one of its own fields is not finite, and no others."""
    original = Forward.compute_log_prob

    def broken(self, batch):
        original(self, batch)
        self.workers.queue.rows["p0_0_0"]["log_probs"][PROMPT - 1] = logp
        return batch

    monkeypatch.setattr(Forward, "compute_log_prob", broken)
    trainer, metrics = run(FLAT)
    assert metrics["entropo/entropy/token_mean"] == metrics["entropo/entropy/q50"] == 2.0
    assert trainer.entropo.loop.entropy == 2.0 and metrics["entropo/tokens/nonfinite_share"] == pytest.approx(1 / 6)
