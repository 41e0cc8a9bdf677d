"""Each draft for verl shows its bug before and its fix after; all together pass, and so does our own suite on them.

Takes minutes, because verl is imported anew for every state of it: `make patches`.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from series import OUTCOME, PATCHES, added_tests, apply, clone, copy_verl, failures, letter, needed, run_tests

pytestmark = pytest.mark.patches
ALONE = ("-c", "/dev/null", "--rootdir=.", "-W", "ignore")
CANNOT_IMPORT = "it cannot be imported"


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    return copy_verl(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def patched(stock, tmp_path_factory):
    return apply(clone(stock, tmp_path_factory.mktemp("patched") / "all"), *PATCHES)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_bug_before_and_the_fix_after(patch, stock, tmp_path):
    before = apply(clone(stock, tmp_path / "before"), *needed(patch))
    after = apply(clone(before, tmp_path / "after"), patch)
    for path, claimed, count in OUTCOME.findall(letter(patch)):
        (before / path).parent.mkdir(parents=True, exist_ok=True)
        (before / path).write_text((after / path).read_text())
        outcomes, said = run_tests(before, [path], *ALONE)
        if claimed == CANNOT_IMPORT:
            assert len(outcomes) == 1 and "ImportError" in said, said
        else:
            assert claimed == f"{len(failures(outcomes))} of {len(outcomes)} fail", said
            assert failures(outcomes)
        outcomes, said = run_tests(after, [path], *ALONE)
        assert failures(outcomes) == [] and len(outcomes) == int(count), said


def test_all_together_pass_every_test_that_they_bring(patched):
    files = [path for patch in PATCHES for path in added_tests(patch)]
    outcomes, said = run_tests(patched, files, *ALONE)
    assert failures(outcomes) == [], said
    assert len(outcomes) > 100


def test_our_own_suite_passes_on_the_patched_verl(patched):
    root = Path(__file__).resolve().parents[2]
    only = (
        "-m",
        "not e2e and not browser and not patches and not scale and not triton and not stock",
        "--ignore=tests/patches",
    )
    outcomes, said = run_tests(patched, ["tests"], *only, plugins="auto", cwd=root)
    assert failures(outcomes) == [], said
    assert len(outcomes) > 300


def python(folder, script, *arguments):
    """Run a script of ours on the verl in ``folder``; returns what it printed last."""
    env = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


ASIDE = """
import verl
from entropo_plugin.hosts.verl import compat
print(verl.__path__[0])
print(compat.cpu_platform(), compat.checkpoint_hooks(), compat.exact_entropy(), sorted(compat.own_names()))
print(sorted(compat.fed_estimators()))
from verl.trainer.ppo.v1.trainer_separate_async import logger
print(type(logger).__name__)
from verl.models.transformers import monkey_patch
print(compat.looks_for_value_head(monkey_patch))
from entropo_plugin.hosts.verl.startup.import_hooks import failures
assert not failures, failures
"""


def test_our_workarounds_step_aside(stock, patched):
    said = {}
    for folder in (stock, patched):
        where, *said[folder] = python(folder, ASIDE)[-5:]
        assert where == str(folder / "verl")
    assert said[stock] == ["False False False []", "[]", "WithoutFlush", "False"]
    fed = ["gdpo", "optimal_token_baseline", "remax", "tir_optimal_token_baseline"]
    assert said[patched] == ["True True True ['adapo', 'repo_r']", str(fed), "Logger", "True"]


STATE = """
import os, sys
from types import SimpleNamespace
from omegaconf import OmegaConf
import verl.trainer.ppo.v1 as v1
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

folder, seen = sys.argv[1], []
marker = os.path.join(folder, "latest_checkpointed_iteration.txt")
trainer = object.__new__(v1.get_trainer_cls("entropo_sync"))
trainer.use_critic, trainer.trainer_mode, trainer.global_steps = False, "sync", 4
trainer.checkpoint_callback = CheckpointCallback()
trainer.actor_rollout_wg = SimpleNamespace(save_checkpoint=lambda *a, **k: None, load_checkpoint=lambda **k: None)
trainer.train_dataloader = SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None)
trainer.config = OmegaConf.create({"actor_rollout_ref": {"actor": {}}, "trainer": {
    "default_local_dir": folder, "default_hdfs_dir": None, "resume_mode": "auto", "del_local_ckpt_after_load": False}})
trainer.entropo = SimpleNamespace(
    state_dict=lambda step: seen.append(("saved", step, os.path.exists(marker))) or {"step": step},
    load_state_dict=lambda state, source, step: seen.append(("loaded", step, os.path.basename(source))))
trainer._join_checkpoint_events()
trainer._save_checkpoint()
trainer._load_checkpoint()
print(type(trainer.checkpoint_callback).__name__, seen)
"""


def test_our_state_is_saved_and_restored_with_and_without_the_events(stock, patched, tmp_path):
    for folder, name in ((stock, "CheckpointCallback"), (patched, "StateCallback")):
        said = python(folder, STATE, tmp_path / name)[-1]
        assert said == f"{name} [('saved', 4, False), ('loaded', 4, 'entropo_state.json')]"
