import subprocess
import sys
import time

import pytest

from entropo_plugin import launch

CHILD = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
    " start_new_session=True); time.sleep(60)"
)


def test_every_descendant_ends_even_outside_the_process_group():
    import os

    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], env=os.environ | {launch.MARK: "abc"}, start_new_session=True
    )
    end = time.monotonic() + 10
    while len(launch.marked("abc")) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert len(launch.marked("abc")) == 2
    launch.end_all("abc", child, patience=5)
    assert launch.marked("abc") == []


def fake_verl(monkeypatch, code):
    """Replace the training command by a short script; everything around it stays real."""
    popen = subprocess.Popen
    monkeypatch.setattr(launch.subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", code], **rest))


def test_steps_arrive_as_they_are_logged_and_a_half_line_waits(monkeypatch, tmp_path):
    code = (
        "import os, time; f = open(os.environ['VERL_FILE_LOGGER_PATH'], 'w')\n"
        'f.write(\'{"step": 1, "data": {}}\\n{"step": 2,\'); f.flush(); time.sleep(1.2)\n'
        "f.write(' \"data\": {}}\\n'); f.close()"
    )
    fake_verl(monkeypatch, code)
    seen = []
    launch.train(tmp_path, [], lambda line: seen.append((line["step"], time.monotonic())))
    assert [step for step, _ in seen] == [1, 2] and seen[1][1] - seen[0][1] > 0.4


VITAL_CHILD = (
    "import subprocess, sys, time\n"
    "code = 'import setproctitle, time; setproctitle.setproctitle(\"VLLM::EngineCore\"); time.sleep(60)'\n"
    "server = subprocess.Popen([sys.executable, '-c', code]); time.sleep(8); server.kill(); time.sleep(60)"
)


def test_a_dead_server_that_the_driver_waits_for_ends_the_run_by_name(capfd):
    pytest.importorskip("setproctitle")
    started = time.monotonic()
    assert launch.launch([sys.executable, "-c", VITAL_CHILD], grace=2) == 1
    assert time.monotonic() - started < 40
    assert "VLLM::EngineCore" in (said := capfd.readouterr().err) and "verl still waits for it" in said


def test_launch_returns_the_commands_own_status_and_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(launch.uuid, "uuid4", lambda: type("Id", (), {"hex": "launched"}))
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True); sys.exit(7)"
    assert launch.launch([sys.executable, "-c", code]) == 7
    assert launch.marked("launched") == []


def test_a_failure_shows_its_last_words(monkeypatch, tmp_path):
    fake_verl(monkeypatch, "print('noise'); raise RuntimeError('no luck')")
    with pytest.raises(
        launch.TrainingFailed, match=r"exit status 1.\nRuntimeError: no luck\nIts whole log: .*train.log"
    ):
        launch.train(tmp_path, [], lambda line: None)


def test_a_training_that_stands_still_is_ended(monkeypatch, tmp_path):
    fake_verl(monkeypatch, "import time; time.sleep(60)")
    started = time.monotonic()
    with pytest.raises(launch.TrainingFailed, match="no step in 1 s"):
        launch.train(tmp_path, [], lambda line: None, stall_seconds=1)
    assert time.monotonic() - started < 30
