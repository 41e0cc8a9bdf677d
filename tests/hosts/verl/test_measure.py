"""What is measured in a step of verl's own trainer, and what that moves through TransferQueue."""

import pytest
import torch
from driver_step import END, driver, one_step, sampled
from omegaconf import OmegaConf

from entropo_plugin.hosts.verl.metrics import step as measure
from entropo_plugin.hosts.verl.worker.clip_shares import actor_bounds


@pytest.fixture
def run(monkeypatch):
    """A driver whose queue stands in for TransferQueue."""

    def make(rows, *overrides, ours=True):
        trainer, queue = driver(rows, *overrides, ours=ours)
        queue.install(monkeypatch)
        return trainer, queue

    return make


def by_hand(queue, name):
    """A field at the policy's tokens over all real rows, in fp64."""
    rows = [row for key, row in queue.rows.items() if not key.startswith("pad")]
    return torch.cat([row[name][row["response_mask"].bool()] for row in rows]).double()


def test_every_statistic_is_exact_over_the_step(run):
    trainer, queue = run(sampled(prompts=4, samples=6, length=8))
    metrics = one_step(trainer)
    entropy, logp = by_hand(queue, "entropy"), by_hand(queue, "old_log_probs")
    advantage = by_hand(queue, "advantages")
    assert metrics["entropo/tokens/count"] == len(entropy)
    assert metrics["entropo/entropy/token_mean"] == pytest.approx(float(entropy.mean()), rel=1e-12)
    assert metrics["entropo/entropy/sampled_estimate"] == pytest.approx(-float(logp.mean()), rel=1e-12)
    predicted = -float((logp.exp() * advantage * (logp + entropy)).mean())
    assert metrics["entropo/dynamics/predicted"] == pytest.approx(predicted, rel=1e-9)
    assert metrics["entropo/mismatch/abs_max"] == 0.0
    assert metrics["entropo/pass_at/1"] == pytest.approx(1 / 3) and metrics["entropo/diversity/group_size"] == 6
    full = [row for row in queue.rows.values() if len(row["responses"]) == 8]
    assert metrics["entropo/tokens/truncated_share"] == len(full) / 24
    assert metrics["entropo/clip/above_positive"] == 0.25  # as the workers report it, without verl's prefix
    assert metrics["entropo/monitor/seconds"] > 0
    assert "critic/score/mean" in metrics and "actor/entropy" in metrics


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("actor_rollout_ref.rollout.calculate_log_probs=true",),
        ("algorithm.rollout_correction.bypass_mode=true",),
        ("algorithm.rollout_correction.rollout_rs=token_k1", "algorithm.rollout_correction.rollout_rs_threshold=2.0"),
    ],
)
def test_measuring_fetches_and_writes_no_byte_beyond_verl(run, overrides):
    rows = sampled(prompts=4, samples=6, length=8)
    moved = []
    for ours in (False, True):
        trainer, queue = run(rows, *overrides, ours=ours)
        one_step(trainer)
        moved.append((queue.fetched, queue.written))
    assert moved[0] == moved[1] and min(moved[0]) > 0


def test_shaping_reads_what_was_heard_and_its_advantages_are_measured(run):
    trainer, queue = run(sampled(4, 6, 8), "+entropo=repo_d", "entropo.repo.zeta.initial=1")
    metrics = one_step(trainer)
    stock, other = run(sampled(4, 6, 8), "algorithm.adv_estimator=rloo", ours=False)
    one_step(stock)
    assert queue.fetched == other.fetched
    assert metrics["entropo/advantage/std"] == pytest.approx(float(by_hand(queue, "advantages").std(correction=0)))
    assert metrics["entropo/shift"] > 0


def test_repo_r_is_predicted_with_its_own_push(run):
    """The loss shapes with the current log-probs; at the first update they are pi_old's."""
    rows = sampled(4, 6, 8)
    plain, _ = run(rows, "+entropo=repo_r", "entropo.repo.zeta.initial=0", "entropo.repo.zeta.law=fixed")
    bare = one_step(plain)
    pushed, queue = run(rows, "+entropo=repo_r", "entropo.repo.zeta.initial=0.05")
    found = one_step(pushed)
    assert "zeta" in pushed.actor_rollout_wg.updates[0]["entropo"]
    assert found["entropo/dynamics/predicted"] > bare["entropo/dynamics/predicted"]
    logp, entropy = by_hand(queue, "old_log_probs"), by_hand(queue, "entropy")
    advantage = by_hand(queue, "advantages")
    shaped = advantage * (1 - 0.05 * logp * advantage.sign())
    shaped = torch.where(shaped.sign() == advantage.sign(), shaped, 0.0)
    predicted = -float((logp.exp() * shaped * (logp + entropy)).mean())
    assert found["entropo/dynamics/predicted"] == pytest.approx(predicted, rel=1e-6)


def test_rows_that_verl_adds_are_left_out(run):
    """23 responses, mini-batches of 24: verl appends a row of its own."""
    rows = sampled(4, 6, 8)
    rows.popitem()
    batch = ["actor_rollout_ref.actor.ppo_mini_batch_size=4", "actor_rollout_ref.rollout.n=6"]
    trainer, queue = run(rows, *batch)
    metrics = one_step(trainer)
    assert len(queue.rows) == 24
    assert metrics["entropo/tokens/count"] == sum(len(row["responses"]) for row in rows.values())
    assert metrics["entropo/diversity/group_size"] == 23 / 4


def test_a_step_forgets_the_one_before(run):
    trainer, queue = run(sampled(2, 4, 8))
    first, second = one_step(trainer), one_step(trainer)
    assert second["entropo/dynamics/measured_change"] == pytest.approx(
        second["entropo/entropy/token_mean"] - first["entropo/entropy/token_mean"]
    )
    assert second["entropo/entropy/token_mean"] == pytest.approx(float(by_hand(queue, "entropy").mean()))


def test_a_field_that_was_not_heard_is_fetched(run):
    trainer, queue = run(sampled(2, 4, 8))
    before = queue.fetched
    rows = trainer.heard.rows(queue.batch, queue.batch.keys, "responses")
    assert torch.equal(rows[0], queue.rows[queue.batch.keys[0]]["responses"])
    assert queue.fetched - before == sum(8 * len(row) for row in rows)
    trainer.heard.rows(queue.batch, queue.batch.keys, "responses")
    assert queue.fetched - before == sum(8 * len(row) for row in rows)


def test_listening_ends_even_after_an_error(run):
    import transfer_queue as tq

    trainer, queue = run(sampled(2, 4, 8))
    with pytest.raises(RuntimeError, match="gone"), trainer.heard.listening():
        raise RuntimeError("gone")
    assert tq.kv_batch_get == queue.kv_batch_get and tq.kv_batch_put == queue.kv_batch_put


def test_truncation_needs_the_limit_and_no_end_token(run):
    rows = sampled(1, 4, 8, full=True)
    keys = list(rows)
    rows[keys[0]]["responses"][-1] = END
    trainer, _ = run(rows)
    assert one_step(trainer)["entropo/tokens/truncated_share"] == 0.75


@pytest.mark.parametrize(
    ("actor", "bounds"),
    [
        ({"clip_ratio": 0.2, "clip_ratio_low": None, "clip_ratio_high": 0.28}, (0.2, 0.28)),
        ({"clip_ratio": 0.2, "clip_ratio_low": 0.0, "clip_ratio_high": None}, (0.0, 0.2)),
    ],
)
def test_the_clip_bounds_are_read_as_verl_reads_them(actor, bounds):
    assert actor_bounds(OmegaConf.create(actor)) == bounds


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
