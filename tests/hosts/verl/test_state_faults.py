"""The state file under faults: killed writers, a full disk, files that somebody cut, edited or mixed up."""

import json
import logging
import math
import os
import random
import re
import resource
import stat
import subprocess
import sys
import time

import pytest
from runs import run_of

from entropo_plugin.config import ConfigError
from entropo_plugin.hosts.verl.checkpoint import NAME, read_state, restore, save_state, write_state

KILLS = 12
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


def trained(*methods, **kind):
    run = run_of(*methods, **kind)
    for number, entropy in enumerate((1.1, 1.0, 0.9), 1):
        run.loop.observe(entropy * 10, 10)
        run.loop.updated = True
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


def test_a_full_device_leaves_the_old_state_and_is_said(tmp_path, caplog, monkeypatch):
    write_state(tmp_path, {"zeta": 1.0})
    real = os.open

    def on_a_full_device(path, flags, *mode):
        return real("/dev/full", os.O_WRONLY) if flags & os.O_CREAT else real(path, flags, *mode)

    with monkeypatch.context() as full, caplog.at_level(logging.WARNING, "entropo_plugin"):
        full.setattr(os, "open", on_a_full_device)
        assert save_state(tmp_path, {"zeta": 2.0}) is False
    assert f"{tmp_path / NAME} was not written ([Errno 28] No space left on device)" in caplog.text
    assert read_state(tmp_path) == {"zeta": 1.0} and os.listdir(tmp_path) == [NAME]
    assert save_state(tmp_path, {"zeta": 3.0}) is True and read_state(tmp_path) == {"zeta": 3.0}


def nested(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"zeta": float("nan")}, "ValueError: Out of range float values"),
        ({"zeta": object()}, "TypeError: Object of type object is not JSON serializable"),
        ({(1, 2): 3}, "TypeError: keys must be str"),
        ({"zeta": nested(100_000)}, "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_a_state_that_json_cannot_hold_is_a_warning(tmp_path, caplog, state, reason):
    write_state(tmp_path, {"zeta": 1.0})
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        assert save_state(tmp_path, state) is False
    assert f"{tmp_path / NAME} was not written ({reason}" in caplog.text
    assert read_state(tmp_path) == {"zeta": 1.0} and os.listdir(tmp_path) == [NAME]


@pytest.mark.parametrize("folder", [None, 7, "zero\0byte", "/dev/null/below"])
def test_a_folder_that_is_none_is_a_warning(folder, caplog):
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        assert save_state(folder, {"zeta": 1.0}) is False
    assert f"{folder}/{NAME} was not written" in caplog.text
    remedy = "Make a folder there that can be written to." if folder == "/dev/null/below" else "Please report it."
    assert caplog.text.strip().endswith(remedy)


def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path, caplog):
    for make_it, left in ((os.mkfifo, stat.S_ISFIFO), (os.mkdir, stat.S_ISDIR)):
        make_it(tmp_path / NAME)
        with pytest.raises(ConfigError, match="is not readable as JSON .*not a regular file"):
            read_state(tmp_path)
        assert save_state(tmp_path, {"zeta": 1.0}) is False and left((tmp_path / NAME).stat().st_mode)
        assert os.listdir(tmp_path) == [NAME]
        os.unlink(tmp_path / NAME) if make_it is os.mkfifo else os.rmdir(tmp_path / NAME)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ConfigError, match="larger than 16777216 bytes"):
        read_state(tmp_path)


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
    trainer.global_steps, trainer.entropo = 3, trained("repo_r")
    (tmp_path / "global_step_3").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        trainer._save_checkpoint()
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "3"
    assert f"global_step_3/{NAME} was not written" in caplog.text


def edited(tmp_path, change):
    """A checkpoint's state after ``change`` by hand."""
    folder = tmp_path / "global_step_3"
    path = write_state(folder, trained("repo_r").state_dict(3))
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


ZETA, VALUE = ("coefficients", "zeta"), "coefficients.zeta.value"
EDITS = [
    (put("0.01", *ZETA, "value"), f"{VALUE}='0.01' is not a finite number"),
    (put(True, *ZETA, "value"), f"{VALUE}=True is not a finite number"),
    (put(None, *ZETA, "value"), f"{VALUE}=None is not a finite number"),
    (put([0.1], *ZETA, "value"), f"{VALUE}=[0.1] is not a finite number"),
    (put(1e300, *ZETA, "value"), f"{VALUE}=1e+300 is not a finite number of a size"),
    (put(10**400, *ZETA, "value"), f"{VALUE}=a number of 1329 bits is not a finite"),
    (put(2e3, *ZETA, "value"), "value=2000: no setting allows more than 1000"),
    (put(-1, *ZETA, "steps"), "coefficients.zeta.steps=-1 is not a count"),
    (put(2.5, *ZETA, "steps"), "coefficients.zeta.steps=2.5 is not a count"),
    (put(10**30, "skipped"), "skipped=1000000000000000000000000000000 is not a count"),
    (put("high", "target", "initial"), "target.initial='high' is not"),
    (put({}, "target", "initial"), "it lacks or garbles"),
    (put(1e9, "target", "initial"), "initial=1e+09: no entropy of a model"),
    (put(-1, "target", "steps"), "target.steps=-1 is not a count"),
    (put(3, "target"), "target=3 is not an object"),
    (put(1, *ZETA, "speed"), "coefficients.zeta.speed is unknown"),
    (put({}, "coefficients", "eta"), "coefficients.eta is unknown"),
    (put([], "coefficients"), "the law of zeta was None, is 'doubling'"),
    (put(["x"], "law", "points"), "law.points=['x'] is not a list of finite numbers"),
    (put([1.0], "law", "points"), "law.points: 1 numbers are no pairs"),
    (put("x" * 10**6, "changes"), "changes='xxxx"),
    (put({"step": 3, "entropy": None, "predicted": None}, "changes", "last"), "it lacks or garbles"),
    (put({"step": 3, "entropy": "1"}, "changes", "last"), "changes.last={'step': 3, 'entropy': '1'} is not"),
    (drop(*ZETA, "steps"), "coefficients.zeta.steps is missing"),
    (drop("law"), "law is missing"),
    (drop("target"), "target is missing"),
    (put(1, "extra"), "extra is unknown"),
    (put(99, "format"), "its format is 99, this version reads 1 and 2"),
    (put(1, "format"), "its format is 1 and it is damaged"),
    (put(None, "format"), "its format is None, this version reads 1 and 2"),
    (drop("format"), "its format is None, this version reads 1 and 2"),
    (put(7, "version"), "version=7 is not text"),
    (put(4, "step"), "the global step was 4, is 3"),
    (put({"repo_d": {}}, "methods"), "entropo.methods was ['repo_d'], is ['repo_r']"),
    (put({}, "methods"), "entropo.methods was [], is ['repo_r']"),
    (put({"repo_r": {}, "adapo": {}}, "methods"), "entropo.methods was ['adapo', 'repo_r'], is ['repo_r']"),
    (put([1], "methods"), "entropo.methods was [1], is ['repo_r']"),
    (put({"repo_r": {"memory": 1}}, "methods"), "methods.repo_r.memory is unknown"),
    (put({"repo_r": 1}, "methods"), "methods.repo_r=1 is not an object"),
    (put({"m" * 10**6: {}}, "methods"), "entropo.methods was ['mmm"),
    (put("pi", *ZETA, "law"), "the law of zeta was 'pi', is 'doubling'"),
]


@pytest.mark.parametrize(("change", "message"), EDITS, ids=[message[:50] for _, message in EDITS])
def test_a_state_edited_by_hand_is_refused_by_name_or_reset(tmp_path, change, message, caplog):
    folder = edited(tmp_path, change)
    with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
        restore(run_of("repo_r"), folder)
    assert str(folder / NAME) in str(refusal.value) and "entropo.resume=reset" in str(refusal.value)
    assert len(str(refusal.value)) < 1000
    untouched(run_of("repo_r", resume="reset"), folder, caplog)


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
    (b'{"format": 1e999}', "its format is inf, this version reads 1 and 2"),
]


@pytest.mark.parametrize(("text", "message"), TEXTS, ids=[message for _, message in TEXTS])
def test_a_file_that_is_no_state_is_refused_by_path_or_reset(tmp_path, text, message, caplog):
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(ConfigError, match=message) as refusal:
        restore(run_of("repo_r"), tmp_path)
    assert str(tmp_path / NAME) in str(refusal.value) and "entropo.resume=reset" in str(refusal.value)
    untouched(run_of("repo_r", resume="reset"), tmp_path, caplog)


def test_cut_anywhere_the_file_is_refused(tmp_path):
    whole = write_state(tmp_path, trained("repo_r", "adapo").state_dict(3)).read_bytes()
    for length in range(len(whole) - 1):
        (tmp_path / NAME).write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="entropo.resume=reset"):
            restore(run_of("repo_r", "adapo"), tmp_path)
    (tmp_path / NAME).write_bytes(whole)
    restore(run_of("repo_r", "adapo"), tmp_path)


def test_a_refused_state_changes_nothing_of_the_run(tmp_path):
    folder, run = edited(tmp_path, put(3, "law")), trained("repo_r")
    before = run.state_dict(3)
    with pytest.raises(ConfigError):
        restore(run, folder)
    assert run.state_dict(3) == before


def test_a_checkpoint_without_a_state_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        restore(run_of("repo_r"), tmp_path)
    assert f"{tmp_path} has no {NAME}; the controller starts from its first value" in caplog.text


@pytest.mark.parametrize(("saved", "taken"), [(0.3, 0.05), (-0.3, -0.05), (0.04, 0.04)])
def test_narrowed_bounds_hold_from_the_first_step_on(tmp_path, saved, taken, caplog):
    folder, run = edited(tmp_path, put(saved, *ZETA, "value")), run_of("repo_r")
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        restore(run, folder)
    assert run.loop.value("zeta") == taken
    assert ("beyond the bounds of this run" in caplog.text) == (saved != taken)


@pytest.mark.parametrize("shaping", ["repo_r", "repo_d", "repo_neutral", None])
@pytest.mark.parametrize("others", [["adapo"], ["clip_cov"], ["kl_cov"], ["adapo", "kl_cov", "entropy_bonus"], []])
@pytest.mark.parametrize("law", ["doubling", "pi"])
def test_every_kind_of_run_reads_what_it_wrote(tmp_path, shaping, others, law):
    methods = [*([shaping] if shaping else []), *others]
    reads = shaping in ("repo_r", "repo_d")
    run, other = (make(*methods, **({"repo": {"zeta": {"law": law}}} if reads else {})) for make in (trained, run_of))
    write_state(tmp_path / "global_step_3", run.state_dict(3))
    restore(other, tmp_path / "global_step_3")
    assert other.state_dict(3) == run.state_dict(3)
    assert all(math.isfinite(each.value) for each in other.loop.controllers.values())


def controller(law, coefficient, **more):
    """A controller as format 1 kept it, after three steps of 1.1, 1.0 and 0.9 nats."""
    kept = {"law": law, "coefficient": coefficient, "steps": 3, "skipped": 1}
    return kept | {"target": {"initial": 1.1, "steps": 3}} | more


LINE = {"n": 0, "mean_x": 0.0, "mean_y": 0.0, "xx": 0.0, "xy": 0.0, "yy": 0.0}


def format_1(estimator, loss, **controllers):
    """``entropo_state.json`` as versions before ``entropo.methods`` wrote it."""
    return {
        "format": 1,
        "version": "0.1.0",
        "step": 3,
        "estimator": estimator,
        "loss": loss,
        "controllers": controllers,
        "changes": {"line": LINE, "last": {"step": 3, "entropy": 0.9, "predicted": -0.3}},
        "law": {"line": LINE},
    }


def test_a_file_of_format_1_continues_with_its_coefficients_and_its_target(tmp_path):
    old = format_1("repo_r", "adapo", zeta=controller("doubling", 0.004), clip_high=controller("multiplicative", 0.34))
    run, folder = run_of("repo_r", "adapo"), tmp_path / "global_step_3"
    write_state(folder, old)
    restore(run, folder)
    assert run.coefficients() == {"repo_r": {"zeta": 0.004}, "adapo": {"clip_high": 0.34}}
    assert (run.loop.target.initial, run.loop.target.steps, run.loop.skipped) == (1.1, 3, 1)
    run.loop.observe(8.0, 10)
    run.loop.updated = True
    metrics = run.end_step(4)
    # 0.8 nats lie below the target of 1.1: zeta doubles, the clip widens by a tenth
    assert (metrics["entropo/target"], metrics["entropo/zeta_next"]) == (1.1, 0.008)
    assert metrics["entropo/clip_high_next"] == pytest.approx(0.374)


def test_a_memory_of_format_1_continues_too(tmp_path):
    zeta = controller("pi", 0.01, memory={"initial": 0.001, "total": 0.2})
    run = run_of("repo_r", repo={"zeta": {"law": "pi"}})
    write_state(tmp_path / "global_step_3", format_1("repo_r", None, zeta=zeta))
    restore(run, tmp_path / "global_step_3")
    assert run.state_dict(3)["coefficients"]["zeta"] == {
        "law": "pi", "value": 0.01, "steps": 3, "memory": {"initial": 0.001, "total": 0.2},
    }  # fmt: skip


def test_model_based_repo_of_format_1_keeps_its_target(tmp_path):
    run = run_of("repo_neutral")
    write_state(tmp_path / "global_step_3", format_1("repo_neutral", None, pull=controller("neutral", 0.02)))
    restore(run, tmp_path / "global_step_3")
    assert run.loop.target.initial == 1.1 and run.loop.controllers == {}


@pytest.mark.parametrize(
    ("estimator", "loss", "controllers", "message"),
    [
        ("repo_d", None, {"zeta": ("doubling", 0.5)}, "entropo.methods was ['repo_d'], is ['adapo', 'repo_r']"),
        ("repo_r", "entropo_kl_cov", {"zeta": ("doubling", 0.5)}, "entropo.methods was ['kl_cov', 'repo_r'], is"),
        ("repo_r", None, {"zeta": ("doubling", 0.004)}, "entropo.methods was ['repo_r'], is ['adapo', 'repo_r']"),
        (
            "repo_r",
            "adapo",
            {"zeta": ("pi", 0.5), "clip_high": ("multiplicative", 0.3)},
            "the law of zeta was 'pi', is",
        ),
    ],
)
def test_a_file_of_format_1_of_another_method_is_refused_by_name(tmp_path, estimator, loss, controllers, message):
    folder = tmp_path / "global_step_3"
    write_state(folder, format_1(estimator, loss, **{name: controller(*each) for name, each in controllers.items()}))
    with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
        restore(run_of("repo_r", "adapo"), folder)
    assert "entropo.resume=reset" in str(refusal.value)
    fresh = run_of("repo_r", "adapo", resume="reset")
    restore(fresh, folder)
    assert fresh.coefficients() == {"repo_r": {"zeta": 1e-3}, "adapo": {"clip_high": 0.28}}


@pytest.mark.parametrize("broken", [{}, {"zeta": 3}, {"zeta": {"law": "doubling"}}])
def test_a_garbled_file_of_format_1_is_refused_for_its_format(tmp_path, broken):
    write_state(tmp_path / "global_step_3", format_1("repo_r", None) | {"controllers": broken})
    with pytest.raises(ConfigError, match="entropo_state.json does not fit this run: .*entropo.resume=reset"):
        restore(run_of("repo_r"), tmp_path / "global_step_3")
