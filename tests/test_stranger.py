"""A method from a package outside the tree: built, installed beside ours, composed, refused, trained with, resumed."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support import main_ppo

from entropo_plugin import cli, launch
from entropo_plugin.control import additive
from entropo_plugin.demo import task
from entropo_plugin.hosts.verl.checkpoint import NAME

SOURCES = Path(__file__).with_name("stranger")
ASKED = ["+entropo=monitor", "entropo.methods=[mine]", "algorithm.adv_estimator=grpo"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The Python of an environment of its own: this one's packages, and the stranger's."""
    folder = tmp_path_factory.mktemp("theirs")
    wheel = build(shutil.copytree(SOURCES, folder / "sources"), folder / "wheel")
    venv.create(folder / "venv", with_pip=False)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "below.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pip("install", "--no-deps", "--no-compile", "--target", packages, wheel)
    return folder / "venv" / "bin" / "python"


def build(sources, out):
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", out, sources)
    (wheel,) = out.glob("*.whl")
    return wheel


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments), "-q"]
    subprocess.run(command, check=True, timeout=3600)


def outcomes(python, cases):
    """What each list of overrides leads to: the start-up line, or the error."""
    done = subprocess.run([python, "-c", COMPOSE, json.dumps(cases)], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


COMPOSE = """
import json, sys
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.hosts.verl.startup.plan import Plan
def outcome(overrides):
    try:
        return Plan.from_config(compose("ppo_trainer", ["+cpu=tiny", *overrides])).in_words()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
print(json.dumps([outcome(overrides) for overrides in json.loads(sys.argv[1])]))
"""
MESSAGES = [
    (
        [*ASKED, "entropo.mine.delta=0.2"],
        "entropo: Damped sharpening; policy loss vanilla; target 1 x the initial entropy; "
        "strength by additive within [0, 0.9]",
    ),
    (
        ["+entropo=repo_r", "entropo.methods=[mine]"],
        "entropo: Damped sharpening; REPO-R on leave-one-out advantages; policy loss vanilla; target 1 x the initial "
        "entropy; strength by additive within [0, 0.9]; zeta by doubling within [-0.05, 0.05]",
    ),
    (
        ["+entropo=monitor", "entropo.methods=[mien]"],
        "ConfigError: entropo.methods: no method is called 'mien'. Did you mean mine? Known here: adapo, ",
    ),
    (
        [*ASKED, "+entropo.mine.detla=0.2"],
        "ConfigError: entropo.mine.detla: unknown key. Did you mean delta? Known here: initial, high, delta.",
    ),
    (
        [*ASKED, "entropo.mine.delta=2"],
        "ConfigError: entropo.mine.delta=2.0: out of range. Set entropo.mine.delta to a number in [0, 1].",
    ),
    (
        ["+entropo=monitor", "entropo.mine.delta=0.2"],
        "ConfigError: entropo.mine.delta=0.2: nothing that runs reads it. It is read by mine: add "
        "entropo.methods=[mine], or delete it.",
    ),
    (
        [*ASKED, "algorithm.rollout_correction.bypass_mode=true"],
        "ConfigError: entropo.methods=[mine]: Damped sharpening needs pi_old's entropy at every token (entropy), which "
        "this run does not have.",
    ),
]


def test_its_settings_compose_and_what_cannot_work_is_refused_in_a_sentence(theirs):
    said = outcomes(theirs, [overrides for overrides, _ in MESSAGES])
    for (overrides, wanted), outcome in zip(MESSAGES, said, strict=True):
        assert outcome.startswith(wanted), (overrides, outcome)


def test_without_the_package_nobody_knows_it():
    (said,) = outcomes(sys.executable, [["+entropo=monitor", "entropo.methods=[mine]"]])
    assert said.startswith("ConfigError: entropo.methods: no method is called 'mine'. Known here: adapo, ")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    task.make(folder, seed=0, steps=60)
    return folder


@pytest.mark.e2e
@pytest.mark.xdist_group("ends")
def test_it_trains_resumes_exactly_and_the_report_names_its_coefficient(theirs, made, tmp_path):
    first = train(theirs, made, tmp_path / "first", 3)
    saved = json.loads((tmp_path / "checkpoints" / "global_step_3" / NAME).read_text())
    second = train(theirs, made, tmp_path / "second", 5)
    assert [line["step"] for line in (*first, *second)] == [1, 2, 3, 4, 5]
    check_steps(line["data"] for line in (*first, *second))
    assert saved["methods"] == {"mine": {}}
    assert saved["coefficients"]["strength"]["value"] == second[0]["data"]["entropo/strength"]
    assert saved["target"] == {"initial": first[0]["data"]["entropo/entropy/token_mean"], "steps": 3}
    check_report([tmp_path / name / "metrics.jsonl" for name in ("first", "second")], tmp_path / "report.html")


def train(python, made, where, steps):
    settings = ["entropo.mine.delta=0.02", "trainer.save_freq=1", "trainer.resume_mode=auto"]
    command = main_ppo(made, where, steps, *ASKED, *settings, "actor_rollout_ref.rollout.name=hf")
    log = where / "metrics.jsonl"
    where.mkdir()
    with open(where / "out.txt", "wb") as out:
        environment = os.environ | {"VERL_FILE_LOGGER_PATH": str(log), "ENTROPO_CPU": "1"}
        done = subprocess.run([python, *command[1:]], stdout=out, stderr=out, cwd=where, env=environment, timeout=3600)
    assert done.returncode == 0, (where / "out.txt").read_text()[-3000:]
    return [line for line in launch.read_steps(log) if "critic/score/mean" in line["data"]]


def check_steps(steps):
    """Over both runs the strength follows its law from the measured entropy, and acts in every step."""
    strength, target = 0.1, None
    for data in steps:
        entropy = data["entropo/entropy/token_mean"]
        target = entropy if target is None else target
        assert (data["entropo/strength"], data["entropo/target"]) == (strength, target)
        assert data["entropo/shift"] > 0
        strength = additive(strength, entropy, target, 0.0, 0.9, 0.02)
        assert data["entropo/strength_next"] == strength


def check_report(logs, page):
    """It finds ``run.json`` beside the log, and calls the coefficient by its label in place of its metric's name."""
    assert cli.main(["report", *map(str, logs), "--out", str(page)]) == 0
    said = json.loads(logs[0].with_name("metrics.run.json").read_text())
    assert said["line"] == MESSAGES[0][1]
    assert said["coefficients"]["strength"]["method"] == "Damped sharpening"
    assert said["coefficients"]["strength"]["label"] == "damping of likely tokens"
    assert "damping of likely tokens" in page.read_text()
