"""The state file under faults: killed writers, a full disk, files that somebody cut, edited or mixed up."""

import json
import logging
import math
import os
import random
import re
import resource
import subprocess
import sys
import time

import pytest

from entropo_plugin.config import ConfigError, parse
from entropo_plugin.hosts.verl.checkpoint import NAME, read_state, restore, save_state, write_state
from entropo_plugin.hosts.verl.run import Run
from entropo_plugin.hosts.verl.startup.plan import Plan

KILLS = 24
SEED = 20261121

# Each state says its number twice, at both ends of some 40 kB, so that a mixture of two cannot pass.
WRITER = """
import sys
from entropo_plugin.hosts.verl.checkpoint import write_state
number = int(sys.argv[2])
while True:
    number += 1
    write_state(sys.argv[1], {"first": number, "body": list(range(5000)), "last": number})
    print(number, flush=True)
"""


def make(node=None, estimator="repo_r", loss=None):
    return Run(Plan(estimator, parse(node), 1e-4, 0.05, loss))


def trained(**kind):
    run = make(**kind)
    for number, entropy in enumerate((1.1, 1.0, 0.9), 1):
        run.observe(entropy * 10, 10)
        run.updated = True
        run.end_step(number, -0.1 * number)
    return run


def test_killed_at_random_moments_the_state_is_whole_the_latest_or_the_one_before(tmp_path):
    chance, number = random.Random(SEED), 0
    write_state(tmp_path, {"first": 0, "body": list(range(5000)), "last": 0})
    for _ in range(KILLS):
        number = kill_a_writer(tmp_path, number, chance.uniform(0.0, 0.06))
    assert number >= KILLS


def kill_a_writer(folder, number, after):
    """Let it write at least once, kill it ``after`` seconds later, and return the number of the state that stands."""
    command = [sys.executable, "-c", WRITER, str(folder), str(number)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
    said = [child.stdout.readline()]
    time.sleep(after)
    child.kill()
    said += child.stdout.readlines()
    assert child.wait() == -9
    finished = max(int(line) for line in said if line.endswith("\n"))
    state = read_state(folder)
    assert state["first"] == state["last"] and state["body"] == list(range(5000))
    # the last that was reported, or the next one, whose report the kill cut off
    assert finished <= state["first"] <= finished + 1
    return state["first"]


def test_a_full_device_leaves_the_old_state_and_is_said(tmp_path, caplog):
    write_state(tmp_path, {"zeta": 1.0})
    (tmp_path / f"{NAME}.partial").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        assert save_state(tmp_path, {"zeta": 2.0}) is False
    assert f"{tmp_path / NAME} was not written ([Errno 28] No space left on device)" in caplog.text
    assert read_state(tmp_path) == {"zeta": 1.0} and os.listdir(tmp_path) == [NAME]
    assert save_state(tmp_path, {"zeta": 3.0}) is True and read_state(tmp_path) == {"zeta": 3.0}


def test_a_limit_reached_in_the_middle_of_the_file_leaves_the_old_state(tmp_path, caplog):
    write_state(tmp_path, {"zeta": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with caplog.at_level(logging.WARNING, "entropo_plugin"):
            assert save_state(tmp_path, {"body": list(range(5000))}) is False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in caplog.text
    assert read_state(tmp_path) == {"zeta": 1.0} and os.listdir(tmp_path) == [NAME]


def test_verls_own_checkpoint_is_saved_although_ours_cannot_be(tmp_path, caplog):
    from omegaconf import OmegaConf

    from entropo_plugin.hosts.verl.driver.trainer import EntropoTrainer

    class Verl:
        def _save_checkpoint(self):
            (tmp_path / "latest_checkpointed_iteration.txt").write_text("3")

    trainer = type("Trainer", (EntropoTrainer, Verl), {"__init__": lambda self: None})()
    trainer.config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path)}})
    trainer.global_steps, trainer.entropo = 3, trained()
    (tmp_path / "global_step_3").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        trainer._save_checkpoint()
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "3"
    assert f"global_step_3/{NAME} was not written" in caplog.text


def edited(tmp_path, change):
    """A checkpoint's state after ``change`` by hand."""
    folder = tmp_path / "global_step_3"
    path = write_state(folder, trained().state_dict(3))
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    return folder


def put(value, *path):
    def change(state):
        *way, last = path
        for name in way:
            state = state[name]
        state[last] = value

    return change


def drop(*path):
    def change(state):
        *way, last = path
        for name in way:
            state = state[name]
        del state[last]

    return change


ZETA = ("controllers", "zeta")
EDITS = [
    (put("0.01", *ZETA, "coefficient"), "controllers.zeta.coefficient='0.01' is not a finite number"),
    (put(True, *ZETA, "coefficient"), "controllers.zeta.coefficient=True is not a finite number"),
    (put(None, *ZETA, "coefficient"), "controllers.zeta.coefficient=None is not a finite number"),
    (put([0.1], *ZETA, "coefficient"), "controllers.zeta.coefficient=[0.1] is not a finite number"),
    (put(1e300, *ZETA, "coefficient"), "controllers.zeta.coefficient=1e+300 is not a finite number of a size"),
    (put(10**400, *ZETA, "coefficient"), "controllers.zeta.coefficient=a number of 1329 bits is not a finite"),
    (put(2e3, *ZETA, "coefficient"), "coefficient=2000: no setting allows more than 1000"),
    (put(-1, *ZETA, "steps"), "controllers.zeta.steps=-1 is not a count"),
    (put(2.5, *ZETA, "steps"), "controllers.zeta.steps=2.5 is not a count"),
    (put(10**30, *ZETA, "skipped"), "is not a count"),
    (put("high", *ZETA, "target", "initial"), "controllers.zeta.target.initial='high' is not"),
    (put({}, *ZETA, "target", "initial"), "it lacks or garbles"),
    (put(1e9, *ZETA, "target", "initial"), "initial=1e+09: no entropy of a model"),
    (put(3, *ZETA, "target"), "controllers.zeta.target=3 is not an object"),
    (put(1, *ZETA, "speed"), "controllers.zeta.speed is unknown"),
    (put({}, "controllers", "eta"), "controllers.eta is unknown"),
    (put([], "controllers"), "the law of zeta was None, is 'doubling'"),
    (put({"n": 1}, "law", "line"), "law.line.mean_x is missing"),
    (put("x" * 10**6, "changes"), "changes='xxxx"),
    (put({"step": 3, "entropy": None, "predicted": None}, "changes", "last"), "it lacks or garbles"),
    (put({"step": 3, "entropy": "1"}, "changes", "last"), "changes.last={'step': 3, 'entropy': '1'} is not"),
    (drop(*ZETA, "steps"), "controllers.zeta.steps is missing"),
    (drop("law"), "law is missing"),
    (put(1, "extra"), "extra is unknown"),
    (put(99, "format"), "its format is 99, this version reads 1"),
    (put(None, "format"), "its format is None, this version reads 1"),
    (drop("format"), "its format is None, this version reads 1"),
    (put(7, "version"), "version=7 is not text"),
    (put(4, "step"), "the global step was 4, is 3"),
    (put("repo_d", "estimator"), "algorithm.adv_estimator was 'repo_d', is 'repo_r'"),
    (put({"a": [1]}, "estimator"), "algorithm.adv_estimator was {'a': [1]}, is 'repo_r'"),
    (put("pi", *ZETA, "law"), "the law of zeta was 'pi', is 'doubling'"),
]


@pytest.mark.parametrize(("change", "message"), EDITS, ids=[message[:50] for _, message in EDITS])
def test_a_state_edited_by_hand_is_refused_by_name_or_reset(tmp_path, change, message, caplog):
    folder = edited(tmp_path, change)
    with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
        restore(make(), folder)
    assert str(folder / NAME) in str(refusal.value) and "entropo.resume=reset" in str(refusal.value)
    assert len(str(refusal.value)) < 1000
    untouched(make({"resume": "reset"}), folder, caplog)


def untouched(run, folder, caplog):
    """With ``entropo.resume=reset`` the same file is said to be left aside, and the run starts as a fresh one."""
    fresh = run.state_dict(0)
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        restore(run, folder)
    assert run.state_dict(0) == fresh and str(folder / NAME) in caplog.text


TEXTS = [
    (b"", "Expecting value"),
    (b'{"format": 1, "vers', "Unterminated string"),
    (b'{"format": NaN}', "NaN is not a finite number"),
    (b'{"format": -Infinity}', "-Infinity is not a finite number"),
    (b"\xff\xfe{}", "codec can't decode"),
    (b"[" * 100_000, "recursion"),
    (b"[1]", "holds a list, not an object"),
    (b'{"format": ' + b"9" * 1_000_000 + b"}", "Exceeds the limit"),
    (b'{"format": 1e999}', "its format is inf, this version reads 1"),
]


@pytest.mark.parametrize(("text", "message"), TEXTS, ids=[message for _, message in TEXTS])
def test_a_file_that_is_no_state_is_refused_by_path_or_reset(tmp_path, text, message, caplog):
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(ConfigError, match=message) as refusal:
        restore(make(), tmp_path)
    assert str(tmp_path / NAME) in str(refusal.value) and "entropo.resume=reset" in str(refusal.value)
    untouched(make({"resume": "reset"}), tmp_path, caplog)


def test_cut_anywhere_the_file_is_refused(tmp_path):
    whole = write_state(tmp_path, trained(loss="adapo").state_dict(3)).read_bytes()
    for length in range(len(whole) - 1):
        (tmp_path / NAME).write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="entropo.resume=reset"):
            restore(make(loss="adapo"), tmp_path)
    (tmp_path / NAME).write_bytes(whole)
    restore(make(loss="adapo"), tmp_path)


def test_a_refused_state_changes_nothing_of_the_run(tmp_path):
    folder, run = edited(tmp_path, put(3, "law")), trained()
    before = run.state_dict(3)
    with pytest.raises(ConfigError):
        restore(run, folder)
    assert run.state_dict(3) == before


def test_a_checkpoint_without_a_state_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        restore(make(), tmp_path)
    assert f"{tmp_path} has no {NAME}; the controller starts anew" in caplog.text


@pytest.mark.parametrize(("saved", "taken"), [(0.3, 0.05), (-0.3, -0.05), (0.04, 0.04)])
def test_narrowed_bounds_hold_from_the_first_step_on(tmp_path, saved, taken, caplog):
    folder, run = edited(tmp_path, put(saved, *ZETA, "coefficient")), make()
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        restore(run, folder)
    assert run.coefficient("zeta") == taken
    assert ("beyond the bounds of this run" in caplog.text) == (saved != taken)


@pytest.mark.parametrize("estimator", ["repo_r", "repo_d", "repo_neutral", None])
@pytest.mark.parametrize("loss", ["adapo", "entropo_clip_cov", "entropo_kl_cov", None])
@pytest.mark.parametrize("law", ["doubling", "pi"])
def test_every_kind_of_run_reads_what_it_wrote(tmp_path, estimator, loss, law):
    kind = {"node": {"repo": {"zeta": {"law": law}}}, "estimator": estimator, "loss": loss}
    run, other = trained(**kind), make(**kind)
    write_state(tmp_path / "global_step_3", run.state_dict(3))
    restore(other, tmp_path / "global_step_3")
    assert other.state_dict(3) == run.state_dict(3)
    assert all(math.isfinite(each.coefficient) for each in other.controllers.values())
