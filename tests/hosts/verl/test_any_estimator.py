"""A method on the advantages of the user's own estimator, in numbers: REPO's equation on exactly what verl computes."""

import itertools

import harness
import pytest
import torch

from entropo_plugin.hosts.verl.worker import loss

ACTOR, ZETA = harness.ACTOR, 0.05
ESTIMATORS = {
    "grpo": ["algorithm.adv_estimator=grpo"],
    "grpo_without_std": ["algorithm.adv_estimator=grpo", "algorithm.norm_adv_by_std_in_grpo=false"],
    "rloo": ["algorithm.adv_estimator=rloo"],
    "reinforce_plus_plus": ["algorithm.adv_estimator=reinforce_plus_plus"],
    "gae": ["algorithm.adv_estimator=gae"],
}
REPO_R = ["+entropo=repo_r", "entropo.repo.zeta.law=fixed", f"entropo.repo.zeta.initial={ZETA}"]
REPO_D = ["+entropo=repo_d", "entropo.repo.zeta.law=fixed", "entropo.repo.zeta.initial=2"]
estimators = pytest.mark.parametrize("estimator", ESTIMATORS)


def policy():
    return harness.Policy(dtype=torch.float64)


def train(monkeypatch, *overrides, steps=1, lr=0.1):
    """A training, the advantages that each call of verl's loss received, and the last step's metrics."""
    received, verls = [], loss.ppo_loss

    def ppo_loss(**arguments):
        received.append([row.clone() for row in arguments["data"]["advantages"].unbind()])
        return verls(**arguments)

    for module in (loss, harness):
        monkeypatch.setattr(module, "ppo_loss", ppo_loss)
    # one micro-batch, so that its rows are those of the batch
    whole = [f"{ACTOR}.ppo_mini_batch_size=4", f"{ACTOR}.ppo_micro_batch_size_per_gpu=16", f"{ACTOR}.ppo_epochs=2"]
    training = harness.Training(harness.configuration(*overrides, *whole), monkeypatch, policy(), lr=lr)
    for seed in range(steps):
        metrics = training.step(harness.sample(policy(), seed=seed))
    for module in (loss, harness):
        monkeypatch.setattr(module, "ppo_loss", verls)
    return training, received, metrics


def stock(monkeypatch, estimator, steps=1):
    return train(monkeypatch, *ESTIMATORS[estimator], steps=steps)


def repo_r(advantage, logp, zeta=ZETA):
    """Token by token: A > 0 becomes max(0, A (1 - zeta log p)), A < 0 becomes min(0, A (1 + zeta log p))."""
    found = []
    for a, level in zip(advantage.tolist(), logp.tolist(), strict=True):
        grown = a * (1 - zeta * level) if a > 0 else a * (1 + zeta * level)
        found.append(grown if grown * a > 0 else 0.0)
    return torch.tensor(found, dtype=torch.float64)


def same(found, expected, **tolerance):
    assert found.keys() == expected.keys() and len(found) == 16
    for key, each in found.items():
        torch.testing.assert_close(each, expected[key], **{"rtol": 1e-12, "atol": 1e-14} | tolerance)


def untouched(ours, verls, *names):
    """Fields that are verl's bit for bit."""
    for name in names:
        same(ours.field(name), verls.field(name), rtol=0, atol=0)


@estimators
def test_repo_r_from_the_old_policy_shapes_verls_own_advantages(estimator, monkeypatch):
    verls, _, _ = stock(monkeypatch, estimator)
    ours, received, metrics = train(monkeypatch, *REPO_R, *ESTIMATORS[estimator], "entropo.repo.logp=old")
    base, logp = verls.field("advantages"), verls.field("old_log_probs")
    expected = {key: repo_r(base[key], logp[key]) for key in base}
    same(ours.field("advantages"), expected)
    # both updates of the step receive these
    for rows in received:
        same(dict(zip(ours.batch.keys, rows, strict=True)), expected)
    shift = torch.cat([(expected[key] - base[key]).abs() for key in base])
    assert float(shift.mean()) > 0 and metrics["entropo/shift"] == pytest.approx(float(shift.mean()))
    untouched(ours, verls, "returns", "old_log_probs", "rm_scores")


@estimators
def test_repo_r_with_the_current_log_probs_does_so_in_every_update(estimator, monkeypatch):
    verls, _, _ = stock(monkeypatch, estimator)
    ours, received, _ = train(monkeypatch, *REPO_R, *ESTIMATORS[estimator])
    base = verls.field("advantages")
    untouched(ours, verls, "advantages", "returns", "old_log_probs")
    table = policy().table.detach()
    for rows, gradient in zip(received, ours.ranks.gradients, strict=True):
        logp = log_probs(table, ours)
        # what is shaped in the loss is padded
        got = {key: row[: len(base[key])] for key, row in zip(ours.batch.keys, rows, strict=True)}
        same(got, {key: repo_r(base[key], logp[key]) for key in base})
        table = table - 0.1 * gradient
    assert len(received) == 2


def log_probs(table, training):
    """Each response's log-probs under a table of logits."""
    level, found = torch.log_softmax(table, -1), {}
    for key, fields in training.store.rows.items():
        ids = [int(fields["prompts"][-1]), *fields["responses"].tolist()]
        found[key] = torch.stack([level[a, b] for a, b in itertools.pairwise(ids)])
    return found


@estimators
def test_repo_d_shapes_verls_own_advantages(estimator, monkeypatch):
    """A - beta L with beta = 2 mean(p A L) over all tokens of the batch and L = log p + H."""
    verls, _, _ = stock(monkeypatch, estimator)
    ours, _, _ = train(monkeypatch, *REPO_D, *ESTIMATORS[estimator])
    base, logp, entropy = (verls.field(name) for name in ("advantages", "old_log_probs", "entropy"))
    level = {key: logp[key] + entropy[key] for key in base}
    cost = torch.cat([logp[key].exp() * base[key] * level[key] for key in base]).mean()
    same(ours.field("advantages"), {key: base[key] - 2 * cost * level[key] for key in base}, rtol=1e-9, atol=1e-12)
    untouched(ours, verls, "returns")


@estimators
@pytest.mark.parametrize("logp", ["old", "current"])
def test_without_a_push_the_run_is_stock_verls_bit_for_bit(logp, estimator, monkeypatch):
    verls, _, _ = stock(monkeypatch, estimator, steps=3)
    zero = [
        "+entropo=repo_r",
        "entropo.repo.zeta.law=fixed",
        "entropo.repo.zeta.initial=0",
        f"entropo.repo.logp={logp}",
    ]
    ours, _, _ = train(monkeypatch, *zero, *ESTIMATORS[estimator], steps=3)
    assert ours.ranks.losses == verls.ranks.losses and len(ours.ranks.losses) == 6
    assert all(map(torch.equal, ours.ranks.gradients, verls.ranks.gradients))
    assert torch.equal(ours.policy.table, verls.policy.table)
    untouched(ours, verls, "advantages", "returns")


def test_a_critics_values_and_targets_are_verls(monkeypatch):
    verls, _, _ = stock(monkeypatch, "gae")
    for overrides in (REPO_R, [*REPO_R, "entropo.repo.logp=old"], REPO_D):
        ours, _, _ = train(monkeypatch, *overrides, *ESTIMATORS["gae"])
        assert ours.trainer.use_critic
        untouched(ours, verls, "values", "returns", "rm_scores", "response_mask", "responses")


@pytest.mark.parametrize("spelled", [[], [f"{ACTOR}.policy_loss.loss_mode=vanilla"]])
def test_adapos_loss_takes_the_place_of_verls_default_spelled_out_or_not(spelled, monkeypatch):
    """A clip of 1 on either side lets verl's vanilla pass everything; ADAPO's of 0.05 and 0.06 decides."""
    wide = ["algorithm.adv_estimator=grpo", f"{ACTOR}.clip_ratio_low=1", f"{ACTOR}.clip_ratio_high=1"]
    narrow = [
        "entropo.adapo.clip_low=0.05",
        "entropo.adapo.clip_high.law=fixed",
        "entropo.adapo.clip_high.initial=0.06",
    ]
    ours, _, metrics = train(monkeypatch, "+entropo=adapo", *narrow, *wide, *spelled, lr=3.0)
    same_clip = [f"{ACTOR}.clip_ratio_low=0.05", f"{ACTOR}.clip_ratio_high=0.06"]
    verls, _, _ = train(monkeypatch, "algorithm.adv_estimator=grpo", *same_clip, lr=3.0)
    open_clip, _, _ = train(monkeypatch, *wide, lr=3.0)
    assert ours.ranks.losses == verls.ranks.losses != open_clip.ranks.losses
    assert torch.equal(ours.policy.table, verls.policy.table)
    assert metrics["entropo/clip_high"] == 0.06 and metrics["entropo/clip/above_positive"] > 0
