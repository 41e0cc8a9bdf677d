"""What is measured in a step of verl's own trainer, and what that moves through TransferQueue."""

import math

import pytest
import torch
from driver_step import END, driver, one_step, sampled
from omegaconf import OmegaConf

from entropo_plugin.hosts.verl.metrics import step as measure
from entropo_plugin.hosts.verl.metrics.health import Alarms
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


def test_shaping_reads_the_cache_and_its_advantages_are_measured(run):
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
    assert pushed.actor_rollout_wg.updates[0]["entropo"] == {"repo_r": {"zeta": 0.05}}
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


def test_a_field_that_verl_did_not_move_is_fetched_once(run):
    trainer, queue = run(sampled(2, 4, 8))
    before = queue.fetched
    rows = trainer.cache.rows(queue.batch, queue.batch.keys, "responses")
    assert torch.equal(rows[0], queue.rows[queue.batch.keys[0]]["responses"])
    assert queue.fetched - before == sum(8 * len(row) for row in rows)
    trainer.cache.rows(queue.batch, queue.batch.keys, "responses")
    assert queue.fetched - before == sum(8 * len(row) for row in rows)


def test_listening_ends_even_after_an_error(run):
    import transfer_queue as tq

    trainer, queue = run(sampled(2, 4, 8))
    with pytest.raises(RuntimeError, match="gone"), trainer.cache.listening():
        raise RuntimeError("gone")
    assert tq.kv_batch_get == queue.kv_batch_get and tq.kv_batch_put == queue.kv_batch_put


def test_truncation_needs_the_limit_and_no_end_token(run):
    rows = sampled(1, 4, 8, full=True)
    keys = list(rows)
    rows[keys[0]]["responses"][-1] = END
    trainer, _ = run(rows)
    assert one_step(trainer)["entropo/tokens/truncated_share"] == 0.75


def test_a_context_that_is_full_cuts_as_well(run):
    """Lengths 6, 5, 4 behind prompts of 2, 3, 4 tokens, max_model_len=8, max_response_length=8, no end token."""
    rows = sampled(1, 3, 8, full=True)
    for row, length in zip(rows.values(), (6, 5, 4), strict=True):
        row |= {name: row[name][:length] for name in ("responses", "response_mask", "rm_scores", "rollout_log_probs")}
    trainer, queue = run(rows, "actor_rollout_ref.rollout.max_model_len=8")
    for tag in queue.batch.tags:
        tag["seq_len"] = 8
    assert one_step(trainer)["entropo/tokens/truncated_share"] == 1.0
    unlimited, _ = run(rows)
    assert one_step(unlimited)["entropo/tokens/truncated_share"] == 0.0


@pytest.mark.parametrize(("engine", "limit"), [("vllm", 8), ("sglang", 7)])
def test_the_context_limit_is_the_engines(engine, limit):
    assert measure.context_limit(OmegaConf.create({"name": engine, "max_model_len": 8})) == limit
    assert measure.context_limit(OmegaConf.create({"name": engine, "max_model_len": None})) is None


def test_a_session_of_several_rows_is_one_response(run):
    """verl copies the reward of a session to all of its rows."""
    rows = sampled(1, 7, 4, full=True)
    names = ["p0_0_0", "p0_0_1", "p0_0_2", "p0_0_3", "p0_1_0", "p0_2_0", "p0_3_0"]
    rows = dict(zip(names, rows.values(), strict=True))
    for name, row in rows.items():
        row["rm_scores"][-1] = float(name.startswith("p0_0"))
    trainer, _ = run(rows)
    found = one_step(trainer)
    assert found["entropo/diversity/group_size"] == found["entropo/diversity/distinct"] == 4
    assert found["entropo/diversity/distinct_right"] == 1
    assert (found["entropo/pass_at/1"], found["entropo/pass_at/2"]) == (0.25, 0.5)


FILTER = ("algorithm.filter_groups.enable=true", "actor_rollout_ref.rollout.n=4")


def kept():
    """Two prompts of four responses, one and two of them right."""
    rows = sampled(2, 4, 8)
    for row, right in zip(rows.values(), (1, 0, 0, 0, 1, 1, 0, 0), strict=True):
        row["rm_scores"][-1] = float(right)
    return rows


def filtered(trainer, counts, surplus=0):
    """The step's sampling leaves in its metrics what verl's replay buffer leaves there."""
    left = {"_dapo_filtered_reward_counts": counts, "training/filter_groups/evicted_samples": sum(counts.values())}
    left |= {"training/filter_groups/discarded_surplus_samples": surplus} if surplus else {}
    sample = trainer.replay_buffer.sample
    trainer.replay_buffer.sample = lambda **given: (sample(**given)[0], left)
    return trainer


def test_a_filtered_batch_is_counted_with_what_verl_filtered(run):
    trainer, _ = run(kept(), *FILTER, "algorithm.filter_groups.metric=reward")
    found = one_step(filtered(trainer, {1.0: 3, 0.0: 3}))
    assert found["entropo/pass_at/1"] == 0.46875 and found["entropo/pass_at/4"] == 0.625
    assert found["entropo/diversity/mixed_share"] == 0.25 and found["entropo/kept/prompt_share"] == 0.25
    assert "entropo/diversity/distinct" not in found and found["entropo/kept/group_size"] == 4


def test_another_metrics_filter_is_said_once_and_not_taken_for_the_sample(run, caplog):
    trainer, _ = run(kept(), *FILTER, "algorithm.filter_groups.metric=acc")
    filtered(trainer, {1.0: 3, 0.0: 3})
    for _ in range(3):
        found = one_step(trainer)
    assert not [name for name in found if name.startswith(("entropo/pass_at", "entropo/diversity"))]
    said = [record.message for record in caplog.records if "algorithm.filter_groups removes" in record.message]
    assert len(said) == 1 and "algorithm.filter_groups.metric=reward" in said[0]


def test_without_a_filter_nothing_was_kept_back():
    config = OmegaConf.create({"algorithm": {"filter_groups": {"enable": False}}})
    assert measure.sampled(config, {}) is None
    assert measure.sampled(OmegaConf.create({"algorithm": {}}), {}) is None


def test_groups_of_one_and_equal_rewards_are_said_at_the_first_step():
    alarms = Alarms(100, samples=4)
    said = alarms.look(1, {"entropo/diversity/group_size": 1.0, "entropo/diversity/equal_share": 0.0})
    assert len(said) == 1 and "no two responses share a prompt, although actor_rollout_ref.rollout.n=4" in said[0]
    said = Alarms(100, samples=4).look(1, {"entropo/diversity/group_size": 4.0, "entropo/diversity/equal_share": 1.0})
    assert len(said) == 1 and "all responses to each prompt have the same score" in said[0]
    assert Alarms(100).look(1, {"entropo/diversity/group_size": 1.0}) == []


def test_equal_rewards_are_said_at_once_also_where_verls_rounding_hides_them(run, caplog):
    """4 prompts of 7, every reward .1: verl's grpo makes -.0074 of them unless it is patched (0013), and ours 0."""
    for overrides in ((), ("+entropo=repo_r",)):
        rows = sampled(4, 7, 8)
        for row in rows.values():
            row["rm_scores"][-1] = 0.1
        caplog.clear()
        trainer, _ = run(rows, *overrides)
        trainer.alarms = Alarms(30, samples=7)
        found = one_step(trainer)
        assert found["entropo/advantage/zero_share"] == 1.0 and found["entropo/diversity/equal_share"] == 1.0
        assert "step 1: all responses to each prompt have the same score" in caplog.text
        size = found["entropo/advantage/abs_mean"]
        assert size == 0 if overrides else size in (0, pytest.approx(0.0074, abs=5e-5))


def test_control_and_statistics_see_the_same_tokens(run):
    """With a NaN and a rejected row the sum that control takes is that of the logged mean."""
    trainer, queue = run(sampled(2, 4, 8))
    one_step(trainer)
    rows = list(queue.rows.values())
    rows[0]["entropy"][0] = float("nan")
    rows[1]["response_mask"][:] = 0
    trainer.cache.clear()
    trainer.cache.rows(queue.batch, queue.batch.keys, "entropy")
    total, count = measure.entropy_sum(trainer.cache, queue.batch)
    entropy = by_hand(queue, "entropy")
    fine = entropy[entropy.isfinite()]
    assert count == len(fine) == len(entropy) - 1 and total == pytest.approx(float(fine.sum()), rel=1e-12)


KL_COV = "actor_rollout_ref.actor.policy_loss.loss_mode=entropo_kl_cov"
ADAPO = (
    "algorithm.adv_estimator=grpo",
    "entropo.adapo.clip_low=0.3",
    "entropo.adapo.clip_high.initial=0.5",
)


@pytest.mark.parametrize(
    ("overrides", "clip"),
    [
        (("actor_rollout_ref.actor.clip_ratio_high=0.28",), (0.2, 0.28)),
        (("actor_rollout_ref.actor.policy_loss.loss_mode=gspo",), None),
        (("actor_rollout_ref.actor.policy_loss.loss_mode=kl_cov",), None),
        (("actor_rollout_ref.actor.policy_loss.loss_mode=sapo",), None),
        (("actor_rollout_ref.actor.policy_loss.loss_mode=clip_cov",), (0.2, 0.2)),
        (("actor_rollout_ref.actor.policy_loss.loss_mode=cispo",), (0.2, 0.2)),
        (("actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean",), (1 - math.exp(-0.2), math.exp(0.2) - 1)),
        (("+entropo=unlikely_positive", "algorithm.adv_estimator=grpo"), (0.2, math.inf)),
        (("algorithm.adv_estimator=grpo", "+entropo=kl_cov", KL_COV), None),
        (("+entropo=adapo", *ADAPO), (0.3, 0.5)),
    ],
)
def test_the_clip_of_the_mismatch_is_that_of_the_loss_in_force(run, monkeypatch, overrides, clip):
    seen = []
    monkeypatch.setattr(measure, "precision_report", recording(seen, measure.precision_report))
    trainer, _ = run(sampled(2, 4, 8), *overrides)
    found = one_step(trainer)
    assert seen == [clip if clip is None else pytest.approx(clip)]
    assert ("entropo/mismatch/clip_low_share" in found) == (clip is not None)


def recording(seen, function):
    """The function, which also leaves the clip that it was given."""

    def call(tokens, logits, chunked, clip):
        seen.append(clip)
        return function(tokens, logits, chunked, clip)

    return call


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
