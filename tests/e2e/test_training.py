"""verl for real: stock entry point, V1 trainers, Ray, TransferQueue, FSDP2 over gloo, and a rollout server."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import kill, main_ppo, start, wait_for

from entropo_plugin import launch
from entropo_plugin.control import doubling
from entropo_plugin.hosts.verl.checkpoint import NAME

pytestmark = pytest.mark.e2e
# two groups that take about as long, one for each core


def check_steps(lines, high):
    """Every step followed the paper's law from the measured entropy, and rollout and trainer agree."""
    zeta, target = 1e-3, None
    for line in lines:
        data = line["data"]
        entropy = data["entropo/entropy/token_mean"]
        target = entropy if target is None else target
        assert data["entropo/zeta"] == zeta and data["entropo/target"] == target
        assert abs(entropy - data["actor/entropy"]) < 1e-5
        assert data["training/rollout_probs_diff_max"] < 1e-3
        assert data["entropo/shift"] > 0
        assert data["entropo/mismatch/abs_max"] < 1e-3 and 0 <= data["entropo/pass_at/8"] <= 1
        zeta = doubling(zeta, entropy, target, 1e-4, high)
        assert data["entropo/zeta_next"] == zeta


@pytest.mark.xdist_group("server")
def test_repo_r_with_a_vllm_server(verl, tmp_path):
    lines = verl("+entropo=repo_r", "entropo.repo.zeta.high=0.3", "entropo.monitor.tokens=3", steps=4)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    check_steps(lines, 0.3)
    tokens = [json.loads(line) for line in (tmp_path / "run" / "metrics.tokens.jsonl").read_text().splitlines()]
    assert [each["step"] for each in tokens] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert all(each["cost"] > 0 and each["token"] and each["entropy"] >= 0 for each in tokens)


@pytest.mark.scale
def test_colocated_async_trainer_with_clip_cov_and_a_vllm_server(verl):
    band = ["entropo.clip_cov.ratio=0.05", "entropo.clip_cov.band=quantile", "entropo.clip_cov.low_quantile=0.5"]
    lines = verl("+entropo=repo_r_clip_cov", "trainer.v1.trainer_mode=entropo_colocate_async", *band, steps=3)
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert abs(line["data"]["entropo/entropy/token_mean"] - line["data"]["actor/entropy"]) < 1e-5
        check_selection(line["data"], 0.05, "dropped")


def check_selection(data, ratio, what):
    """The quota is exact over the whole batch, and what the driver chose is what the workers' loss saw."""
    assert data["entropo/selection/share"] == int(ratio * data["entropo/tokens/count"]) / data["entropo/tokens/count"]
    # the loss's share is the plain mean of its mini-batches' shares, which differ in length
    assert data[f"entropo/selection/{what}"] == pytest.approx(data["entropo/selection/share"], rel=0.2)


@pytest.mark.scale
def test_repo_d_on_the_driver_with_kl_cov_in_the_loss(verl):
    loss = ["actor_rollout_ref.actor.policy_loss.loss_mode=entropo_kl_cov", "entropo.kl_cov.ratio=0.05"]
    settings = ["+entropo=repo_d", "entropo.repo.zeta.initial=1", "actor_rollout_ref.rollout.name=hf"]
    lines = verl(*settings, *loss, steps=2)
    assert [line["data"]["entropo/zeta"] for line in lines] == [1.0, 1.0]
    for line in lines:
        assert line["data"]["entropo/shift"] > 0 and line["data"]["entropo/beta"] == 1.0
        check_selection(line["data"], 0.05, "penalised")


@pytest.mark.scale
def test_model_based_repo_adapo_kl_cov_and_an_entropy_bonus_in_one_run(verl):
    fixed = ["entropo.target.kind=value", "entropo.target.value=1.0", "actor_rollout_ref.rollout.name=hf"]
    more = ["entropo.methods=[kl_cov]", "entropo.kl_cov.ratio=0.05", "entropo.kl_cov.scope=mini_batch"]
    more += ["entropo.entropy_coeff.law=additive", "actor_rollout_ref.actor.calculate_entropy=true"]
    first, second = (line["data"] for line in verl("+entropo=repo_neutral_adapo", *fixed, *more, steps=2))
    assert (first["entropo/entropy_coeff"], second["entropo/entropy_coeff"]) == (0.0, 0.0)
    assert 0.04 < first["entropo/selection/penalised"] < 0.05
    # the entropy lies above its target, so that beta lowers it
    assert first["entropo/entropy/token_mean"] > 1.0 and first["entropo/beta_neutral"] < 0
    assert (first["entropo/clip_high"], second["entropo/clip_high"]) == (0.28, first["entropo/clip_high_next"])
    assert first["entropo/shift"] > 0 and 0 <= first["entropo/clip/above_positive"] <= 1


@pytest.mark.xdist_group("ends")
def test_killed_and_resumed_the_controller_continues_exactly(made, tmp_path, verl):
    where = tmp_path / "first"
    settings = [
        "+entropo=repo_r",
        "actor_rollout_ref.rollout.name=hf",
        "trainer.save_freq=1",
        "trainer.resume_mode=auto",
    ]
    log, run_id = where / "metrics.jsonl", "killed-and-resumed"
    marks = {"VERL_FILE_LOGGER_PATH": str(log), launch.MARK: run_id}
    child = start(main_ppo(made, where, 50, *settings), where, **marks)
    try:
        wait_for(lambda: len(launch.read_steps(log)) >= 3, child)
    finally:
        kill(child)
        launch.end_all(run_id, child)
    saved = int((tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    state = json.loads((tmp_path / "checkpoints" / f"global_step_{saved}" / NAME).read_text())
    before = {line["step"]: line["data"] for line in launch.read_steps(log)}
    assert state["step"] == saved >= 2
    if saved in before:
        assert state["coefficients"]["zeta"]["value"] == before[saved]["entropo/zeta_next"]

    lines = verl(*settings, folder="second", steps=saved + 2)
    assert [line["step"] for line in lines] == [saved + 1, saved + 2]
    first = lines[0]["data"]
    assert first["entropo/zeta"] == state["coefficients"]["zeta"]["value"]
    assert first["entropo/target"] == state["target"]["initial"] == before[1]["entropo/target"]


@pytest.mark.xdist_group("server")
def test_bad_settings_end_on_the_driver_before_a_cluster_is_up(made, tmp_path):
    child = start(main_ppo(made, tmp_path, 3, "+entropo=repo_r", "entropo.repo.zeta.high=1000"), tmp_path)
    assert child.wait(240) == 1
    said = (tmp_path / "out.txt").read_text()
    assert "entropo.repo.zeta.high=1000.0: out of range. Set entropo.repo.zeta.high to a number in" in said
    assert "Traceback" not in said
    assert "ray init kwargs" not in said and "Started a local Ray instance" not in said


@pytest.mark.xdist_group("server")
@pytest.mark.parametrize(
    ("entry", "settings"),
    [
        ("verl.trainer.main_ppo", ["trainer.use_v1=false"]),
        ("verl.experimental.one_step_off_policy.main_ppo", []),
        ("verl.experimental.fully_async_policy.fully_async_main", []),
    ],
)
def test_trainers_of_another_kind_are_refused_in_a_sentence(entry, settings, tmp_path):
    configs = tmp_path / "verl" / "trainer" / "config"  # one-step-off looks for it below the current folder
    configs.parent.mkdir(parents=True)
    configs.symlink_to(Path(find_spec("verl").origin).parent / "trainer" / "config")
    child = start([sys.executable, "-m", entry, "+entropo=repo_r", *settings], tmp_path)
    assert child.wait(240) == 1
    said = (tmp_path / "out.txt").read_text()
    wanted = "Set trainer.use_v1=true" if settings else f"{entry.rpartition('.')[0]} has a trainer of its own"
    assert "\nentropo: " in said and wanted in said and "Traceback" not in said, said
    assert "ray init kwargs" not in said and "Started a local Ray instance" not in said


@pytest.mark.xdist_group("server")
def test_the_doctor_finds_everything_here_and_in_a_ray_worker(tmp_path):
    command = [sys.executable, "-m", "entropo_plugin.cli", "doctor", "+cpu=tiny", "+entropo=repo_r"]
    child = start(command, tmp_path)
    assert child.wait(300) == 0, (tmp_path / "out.txt").read_text()
    said = (tmp_path / "out.txt").read_text()
    for line in (
        "ok       verl: 0.9.1 is supported",
        "Ray worker: estimators registered: negative_reinforce, quantile_baseline, repo_d, repo_neutral, repo_r",
        "entropo: REPO-R on leave-one-out advantages; policy loss vanilla; target 1 x the initial entropy",
        "ok       recipe ppo_trainer: valid: estimator repo_r, trainer entropo_sync",
        "ok       device platform: cpu (our CPU host)",
        "All is well.",
    ):
        assert line in said


@pytest.mark.scale
def test_ctrl_c_ends_the_demo_and_leaves_no_process(tmp_path):
    import psutil

    command = [sys.executable, "-m", "entropo_plugin.cli", "demo", "--rollout", "hf", "--out", str(tmp_path / "demo")]
    child = start(command, tmp_path)
    try:
        wait_for(lambda: list((tmp_path / "demo").glob("grpo/train.log")), child)
        log = tmp_path / "demo" / "grpo" / "train.log"
        wait_for(lambda: "Started a local Ray instance" in log.read_text(errors="replace"), child)
        family = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(2)
        assert child.wait() == 130
    finally:
        if child.poll() is None:
            kill(child)
    assert "Interrupted; every process of the training has been ended." in (tmp_path / "out.txt").read_text()
    assert family and not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
