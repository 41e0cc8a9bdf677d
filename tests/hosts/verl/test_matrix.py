"""Every estimator with every policy loss and covariance method: it trains, or it is refused with the reason."""

import harness
import pytest
import torch
from omegaconf import open_dict
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

from entropo_plugin.config import COVARIANCES, ESTIMATORS, ConfigError
from entropo_plugin.hosts.verl.compat import fed_estimators

LOSS = "actor_rollout_ref.actor.policy_loss.loss_mode"
# where a patched verl feeds them (patches/0001), its own tests train them
HERE = [name for name in ADV_ESTIMATOR_REGISTRY if name not in fed_estimators()]
UNFED = ("gdpo", "remax", "optimal_token_baseline", "tir_optimal_token_baseline")


@pytest.fixture(scope="module")
def base():
    """Two prompts of two responses, two updates a step, covariance settings under which both methods find tokens."""
    cov = {"ratio": 0.2, "band": "quantile", "low_quantile": 0.1, "high_quantile": 1.0}
    return harness.configuration(
        "+entropo=monitor",
        **{f"entropo__clip_cov__{name}": value for name, value in cov.items()},
        entropo__kl_cov__ratio=0.2,
        actor_rollout_ref__rollout__calculate_log_probs=False,
        actor_rollout_ref__rollout__n=2,
        data__train_batch_size=2,
        actor_rollout_ref__actor__ppo_mini_batch_size=1,
        actor_rollout_ref__actor__ppo_micro_batch_size_per_gpu=2,
    )


def refusal(estimator, loss, covariance):
    """Words of the message with which a combination is refused, or None for one that trains."""
    if estimator in UNFED:
        return f"algorithm.adv_estimator={estimator} needs .* verl's V1 trainers do not hand"
    if estimator in ESTIMATORS and loss == "geo_mean":
        return f"loss_mode=geo_mean gives every token .* undoes what algorithm.adv_estimator={estimator}"
    if covariance != "none" and loss.endswith(("clip_cov", "kl_cov")):
        return f"entropo.covariance={covariance}: .*loss_mode={loss} is a covariance method already"
    if covariance == "clip_cov" and loss in ("geo_mean", "dro"):
        return f"entropo.covariance=clip_cov: .*loss_mode={loss} .* cannot be dropped"
    return None


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("loss", POLICY_LOSS_REGISTRY)
@pytest.mark.parametrize("estimator", HERE)
def test_every_combination_trains_or_says_why_not(estimator, loss, covariance, base, monkeypatch):
    with open_dict(base):
        base.algorithm.adv_estimator = estimator
        base.actor_rollout_ref.actor.policy_loss.loss_mode = loss
        base.entropo.covariance = covariance
        base.trainer.v1.trainer_mode = "entropo_sync"
    words = refusal(estimator, loss, covariance)
    if words:
        with pytest.raises(ConfigError, match=words):
            harness.Training(base, monkeypatch)
        return
    trains(harness.Training(base, monkeypatch), chooses=covariance != "none" or loss.startswith("entropo_"))


def trains(training, chooses):
    """Two steps of two updates with finite losses and gradients, of which every step moves the weights."""
    for seed in range(2):
        before = training.policy.table.detach().clone()
        metrics = training.step(harness.sample(training.policy, prompts=2, group=2, seed=seed))
        assert not torch.equal(before, training.policy.table)
        assert metrics["entropo/tokens/nonfinite_share"] == 0
        assert (metrics.get("entropo/selection/share", 0) > 0) == chooses
    assert len(training.ranks.losses) == 4 and torch.tensor(training.ranks.losses).isfinite().all()
    assert all(gradient.isfinite().all() for gradient in training.ranks.gradients)
