"""verl on several ranks and several Ray nodes: ``make scale``, some minutes."""

import html
import json
import os
import subprocess
import sys

import pytest
from support import overrides_for
from test_training import check_steps

from entropo_plugin import cli, launch

pytestmark = pytest.mark.scale

SIZE = ["actor_rollout_ref.rollout.name=hf", "ray_kwargs.ray_init.num_cpus=8"]
# a rank's share of the rollout batch, and of a mini-batch, must be whole micro-batches
SMALL = ["actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=32"]
SMALL += ["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8"]
COVARIANCE = ["entropo.methods=[kl_cov]", "entropo.kl_cov.ratio=0.05"]


def check_all(lines, steps):
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    check_steps(lines, 0.05)
    for data in (line["data"] for line in lines):
        count = data["entropo/tokens/count"]
        assert data["entropo/selection/share"] == int(0.05 * count) / count
        assert data["entropo/selection/penalised"] == pytest.approx(data["entropo/selection/share"], rel=0.2)


def test_two_ranks_follow_one_law(verl):
    lines = verl("+entropo=repo_r", *COVARIANCE, *SIZE, *SMALL, "trainer.n_gpus_per_node=2", steps=3)
    check_all(lines, 3)


def test_two_ranks_with_dynamic_batches(verl):
    dynamic = ["actor_rollout_ref.actor.use_dynamic_bsz=true", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=96"]
    lines = verl("+entropo=repo_r", *COVARIANCE, *SIZE, *SMALL, *dynamic, "trainer.n_gpus_per_node=2", steps=2)
    check_all(lines, 2)


def test_eight_ranks_follow_one_law(verl):
    """Eight FSDP2 ranks, each with a rollout server of its own: more processes than cores by far, so few steps."""
    share = ["actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16"]
    share += ["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4", "trainer.n_gpus_per_node=8"]
    room = ["ray_kwargs.ray_init.num_cpus=30"]
    lines = verl("+entropo=repo_r", *COVARIANCE, *SIZE[:1], *room, *share, steps=3, patience=1200)
    check_all(lines, 3)


def test_tasks_of_reasoning_gym_train_and_an_unmarked_answer_scores_nothing(verl, tmp_path, capsys):
    assert cli.main(["tasks", "chain_sum", "letter_counting", "--out", str(tmp_path / "data"), "--size", "64"]) == 0
    length = ["data.max_prompt_length=400", "actor_rollout_ref.rollout.max_model_len=512"]
    lines = verl("+entropo=repo_r", *SIZE[:1], *capsys.readouterr().out.split(), *length, steps=2)
    assert [line["data"]["critic/score/max"] for line in lines] == [0.0, 0.0]
    assert all(line["data"]["prompt_length/min"] > 16 for line in lines)  # theirs, not the demo's


@pytest.fixture
def two_nodes(monkeypatch):
    """Two Ray nodes on this machine, started outside the training; the second knows us by entry point only."""
    # Ray gives a head a token that the second node would have to be told
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray = [os.path.join(os.path.dirname(sys.executable), "ray")]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENTROPO")} | quiet

    def call(*arguments):
        done = subprocess.run([*ray, *arguments], env=clean, cwd="/", capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stdout + done.stderr

    size = ["--num-cpus=6", "--num-gpus=1", "--disable-usage-stats", "--object-store-memory=200000000"]
    call("start", "--head", "--port=6391", "--include-dashboard=false", *size)
    try:
        call("start", "--address=127.0.0.1:6391", *size)
        yield "127.0.0.1:6391"
    finally:
        subprocess.run([*ray, "stop", "--force"], env=clean, capture_output=True, timeout=3600)


def test_two_nodes_find_the_plugin_by_its_entry_point(verl, two_nodes, tmp_path):
    cluster = [f"+ray_kwargs.ray_init.address={two_nodes}", "trainer.nnodes=2", "trainer.n_gpus_per_node=1"]
    # the cluster's processes are not the driver's children
    log = f"+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH={tmp_path / 'run' / 'metrics.jsonl'}"
    alone = ["~ray_kwargs.ray_init.num_cpus", "~ray_kwargs.ray_init.num_gpus", "~ray_kwargs.ray_init.include_dashboard"]
    lines = verl("+entropo=repo_r", *COVARIANCE, SIZE[0], *SMALL, *cluster, *alone, log, steps=3)
    check_all(lines, 3)


def test_trainer_and_rollout_apart(verl):
    """verl's separate_async with weights over TCP: the mini-batch is the step, and the law follows each."""
    apart = ["trainer.v1.trainer_mode=entropo_separate_async", "actor_rollout_ref.hybrid_engine=false"]
    apart += ["actor_rollout_ref.rollout.nnodes=1", "actor_rollout_ref.rollout.n_gpus_per_node=1"]
    engine = "actor_rollout_ref.rollout.checkpoint_engine"
    apart += [f"{engine}.backend=entropo_tcp", f"{engine}.custom_backend_module=entropo_plugin.hosts.verl.cpu.weights"]
    apart += ["trainer.v1.separate_async.parameter_sync_step=4", "ray_kwargs.ray_init.num_gpus=2"]
    lines = verl("+entropo=repo_r", *apart, *SMALL, "ray_kwargs.ray_init.num_cpus=10", steps=4)
    zeta = [line["data"]["entropo/zeta"] for line in lines]
    assert zeta[0] == 1e-3 and zeta[1:] == [line["data"]["entropo/zeta_next"] for line in lines[:-1]]


def test_without_recomputed_log_probs_a_schedule_goes_on(verl):
    """verl's bypass mode: no entropy is measured, which no coefficient of this run needs."""
    anneal = [f"entropo.kl_cov.anneal.{each}" for each in ("kind=linear", "hold=1", "steps=2")]
    bypass = ["algorithm.adv_estimator=grpo", "algorithm.rollout_correction.bypass_mode=true"]
    lines = [line["data"] for line in verl("+entropo=kl_cov", SIZE[0], *bypass, *anneal, *SMALL, steps=4)]
    assert [data["entropo/beta"] for data in lines] == [1.0, 1.0, 0.5, 0.0]
    assert all(data["entropo/entropy/sampled_estimate"] > 0 for data in lines)
    assert not any("entropo/entropy/token_mean" in data or "entropo/skipped" in data for data in lines)


def test_packed_sequences_without_flash_attention(verl):
    """The rollout's log-probs of padded left-aligned prompts against the trainer's of packed sequences."""
    lines = verl("+entropo=repo_r", SIZE[0], *SMALL, "actor_rollout_ref.model.use_remove_padding=true", steps=2)
    for line in lines:
        assert line["data"]["training/rollout_probs_diff_max"] < 1e-4
        assert abs(line["data"]["entropo/entropy/token_mean"] - line["data"]["actor/entropy"]) < 1e-5


def test_three_hundred_steps_in_flat_memory(made, tmp_path):
    """What all processes of the run hold for themselves at the end against the fiftieth step; zeta in its bounds.

    But for Ray's gcs_server, which keeps a list of the tasks that have ended, with stock verl too: 1.6 MB a step.
    """
    used, run_id = {}, "three-hundred-steps"

    def on_step(line):
        if line["step"] in (50, 150, 300):
            counted = [each for each in launch.marked(run_id) if each.name() != "gcs_server"]
            used[line["step"]] = sum(each.memory_full_info().uss for each in counted) / 2**30

    where = tmp_path / "run"
    overrides = [*overrides_for(made, where, 301), "+entropo=repo_r", SIZE[0]]
    launch.train(where, overrides, on_step, run_id=run_id)
    lines = [line["data"] for line in launch.read_steps(where / "metrics.jsonl")][:301]
    print("GB at steps 50, 150 and 300: " + ", ".join(f"{used[step]:.3f}" for step in (50, 150, 300)))
    assert used[300] - used[50] < 0.1
    assert len(lines) == 301 and all(1e-4 <= abs(data["entropo/zeta"]) <= 0.05 for data in lines)
    assert all(0 <= data["entropo/entropy/token_mean"] < 4 for data in lines)


# the model has 19 tokens: log 19 = 2.94
NEARLY_UNIFORM = ["entropo.target.kind=value", "entropo.target.value=2.9"]
# What each method of the second wave needs beside its name, and a metric that shows that it acts in the first step.
WAVE = {
    "top_entropy": ([], "entropo/selection/dropped"),
    "entropy_range": (["entropo.entropy_range.low=0", "entropo.entropy_range.high=0.1"], "entropo/shift"),
    "quantile_baseline": ([], "entropo/advantage/abs_mean"),
    "negative_reinforce": ([], "entropo/advantage/abs_mean"),
    "unlikely_positive": ([], "actor/grad_norm"),
    "ce_gppo": ([], "actor/grad_norm"),
    "entropy_advantage": ([], "entropo/shift"),
    "stare": (NEARLY_UNIFORM, "entropo/shift"),
    "entropic": (["entropo.entropic.probability=0.5"], "entropo/entropic_share"),
    "entropy_bonus": (["entropo.entropy_coeff.law=skywork", *NEARLY_UNIFORM], ""),
    "repo_anchored": ([], "entropo/anchor"),
}


@pytest.mark.parametrize("method", WAVE)
def test_every_method_of_the_second_wave_trains_on_real_verl(method, verl, capsys, tmp_path):
    more, acts = WAVE[method]
    # without an estimator verl takes gae, which wants a critic; these two methods bring their own
    base = [] if method in ("quantile_baseline", "negative_reinforce") else ["algorithm.adv_estimator=grpo"]
    first, second = (line["data"] for line in verl(*base, f"+entropo={method}", *SIZE[:1], *more, steps=2))
    assert first["entropo/tokens/nonfinite_share"] == second["entropo/tokens/nonfinite_share"] == 0
    assert not acts or first[acts] > 0
    assert method != "entropy_bonus" or second["entropo/entropy_coeff"] == 0.005
    described = json.loads((tmp_path / "run" / "metrics.run.json").read_text())
    assert cli.main(["report", str(tmp_path / "run" / "metrics.jsonl"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert all(html.escape(each["label"]) in page for each in described["coefficients"].values())
