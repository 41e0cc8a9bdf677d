"""``entropo launch`` with real processes and real signals, whatever signals the test runner itself ignores."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from entropo_plugin import cli, launch
from entropo_plugin.launch import vital
from entropo_plugin.launch.processes import Family, adopting, exit_handle, exit_status

# how long something takes is the machine's affair; this ends a test that hangs
PATIENT = 3600.0
# A child of a child, in a session of its own.
CHILD = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True); time.sleep(600)"
)
# What a command needs to say who and where it is: its number and its children's, one a line, written when all is ready.
SAY = "def say(*pids):\n    open(where + '.part', 'w').write('\\n'.join(map(str, pids)))\n    "
SAY = f"import os, signal, subprocess, sys, time\nwhere = sys.argv[1]\n{SAY}os.rename(where + '.part', where)\n"
STUBBORN = "".join(f"signal.signal(signal.{name}, signal.SIG_IGN)\n" for name in ("SIGINT", "SIGTERM", "SIGHUP"))


def until(condition, message="waited in vain"):
    end = time.monotonic() + PATIENT
    while not (found := condition()):
        assert time.monotonic() < end, message
        time.sleep(0.05)
    return found


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def default_signals():
    """What a test runner in the background hands down, an ignored SIGINT for example, must not decide the test."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Launched:
    """``entropo launch`` as a process of its own, with the numbers of those that its command has started."""

    def __init__(self, folder, code, *options, preexec=default_signals):
        self.where, self.log = folder / "pids", folder / "log"
        command = [sys.executable, "-m", "entropo_plugin.cli", "launch", *options, "--", sys.executable, "-c"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, SAY + code, str(self.where)], stdout=log, stderr=log, cwd="/", preexec_fn=preexec
            )
        until(lambda: self.where.exists() or self.process.poll() is not None, "the command did not start")
        assert self.where.exists(), self.log.read_text()
        self.pids = [int(line) for line in self.where.read_text().split()]

    def send(self, *numbers):
        for number in numbers:
            self.process.send_signal(number)
        return self

    def ends(self, *statuses):
        """Exits so, and nothing is left."""
        assert self.process.wait(PATIENT) in statuses, self.log.read_text()
        until(lambda: not any(map(lives, self.pids)), f"left behind: {self.pids}")


TREE = (
    "a = subprocess.Popen(['sleep', '600'])\nb = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    "say(os.getpid(), a.pid, b.pid)\ntime.sleep(600)\n"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_ends_everything_and_is_the_exit_status(tmp_path, number):
    # a script's background jobs inherit SIGINT and SIGQUIT as ignored
    heard = Launched(tmp_path, TREE, preexec=lambda: signal.signal(number, signal.SIG_DFL))
    heard.send(number).ends(128 + number)


def test_an_ignored_or_blocked_signal_is_not_handed_down(tmp_path):
    def background():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    (tmp_path / "int").mkdir()
    Launched(tmp_path / "int", TREE, preexec=background).send(signal.SIGINT).ends(130)
    Launched(tmp_path, TREE, preexec=background).send(signal.SIGTERM).ends(143)


def test_nohup_keeps_its_meaning(tmp_path):
    launched = Launched(tmp_path, TREE, preexec=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    launched.send(signal.SIGHUP)
    # looked at a good while later, when the next signal has been dealt with
    launched.send(signal.SIGTERM).ends(143)


def test_a_second_signal_leaves_no_child_that_ignores_them_all(tmp_path):
    code = STUBBORN + "say(os.getpid())\nwhile True: time.sleep(600)\n"
    launched = Launched(tmp_path, code).send(signal.SIGINT)
    until(lambda: "SIGINT" in launched.log.read_text())
    started = time.monotonic()
    while launched.process.poll() is None and time.monotonic() - started < PATIENT:
        launched.send(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        time.sleep(0.1)
    # the negative ones have met an interpreter that is already on its way out
    launched.ends(130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)


def test_a_clean_up_after_the_end_is_not_cut_short(tmp_path):
    """The command has ended; what it left ignores SIGTERM, and a Ctrl-C arrives while it is being ended."""
    code = (
        f"child = subprocess.Popen([sys.executable, '-c', '''import signal, time\\n{STUBBORN}print(flush=True)\\n"
        "time.sleep(600)'''], stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline()\nsay(child.pid)\nsys.exit(7)\n"
    )
    launched = Launched(tmp_path, code)
    for _ in range(5):
        if launched.process.poll() is None:
            launched.send(signal.SIGINT)
        time.sleep(0.05)
    launched.ends(7, -signal.SIGINT)


# Each escapes one way of finding it: no mark, no parent, no process group, no mark that can be read.
ESCAPES = {
    "cleared environment": "subprocess.Popen(['sleep', '600'], env={}, start_new_session=True)",
    "cleared, and its parent has ended": (
        "subprocess.run([sys.executable, '-c', 'import subprocess as s; "
        'print(s.Popen(["sleep", "600"], env={}, start_new_session=True, stdout=s.DEVNULL).pid)\'], env={}, '
        "stdout=subprocess.PIPE, start_new_session=True)"
    ),
}


@pytest.mark.parametrize("way", ESCAPES)
def test_no_descendant_escapes(tmp_path, way):
    found = "child.pid" if "run(" not in ESCAPES[way] else "int(child.stdout)"
    code = f"child = {ESCAPES[way]}\nsay(os.getpid(), {found})\ntime.sleep(600)\n"
    Launched(tmp_path, code).send(signal.SIGTERM).ends(143)


def test_a_descendant_once_seen_is_remembered_without_mark_and_parent():
    """As an environment that is cleared looks where orphans go to init."""
    code = "import subprocess as s; print(s.Popen(['sleep', '600'], env={}, start_new_session=True).pid, flush=True)"
    code += "; import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={}, start_new_session=True)
    grandchild = int(child.stdout.readline())
    family = Family("unknown", child)
    assert {process.pid for process in family.look()} == {child.pid, grandchild}
    child.kill()
    child.wait()
    assert [process.pid for process in family.look()] == [grandchild]
    family.end()
    assert not lives(grandchild)


def test_the_direct_child_ends_although_nothing_can_be_seen(monkeypatch):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    family = Family("unknown", child)
    monkeypatch.setattr("entropo_plugin.launch.processes._parents", lambda: {})
    family.end(patience=0)
    assert child.poll() is not None


def test_the_direct_child_ends_although_looking_fails(monkeypatch):
    """As with too many open files."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    monkeypatch.setattr("entropo_plugin.launch.processes.psutil.pids", lambda: os.open("/nowhere", os.O_RDONLY))
    with pytest.raises(FileNotFoundError):
        Family("unknown", child).end()
    assert child.poll() is not None


def test_another_child_of_this_process_is_left_alone():
    before = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with adopting() as others:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        family, beside = Family("unknown", child, others), subprocess.Popen(["sleep", "600"])
        # in the background of a script a child ignores Ctrl-C, and this is waited for
        family.end(patience=1)
    assert child.poll() is not None and before.poll() is None and beside.poll() is None
    for process in (before, beside):
        process.kill()
        process.wait()


def test_every_descendant_ends_even_outside_the_process_group():
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], env=os.environ | {launch.MARK: "abc"}, start_new_session=True
    )
    until(lambda: len(launch.marked("abc")) == 2)
    launch.end_all("abc", child, patience=5)
    assert launch.marked("abc") == []


def fake_verl(monkeypatch, code):
    """Replace the training command by a short script; everything around it stays real."""
    popen = subprocess.Popen
    monkeypatch.setattr(launch.subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", code], **rest))


@pytest.mark.parametrize(("device", "variable"), [({}, "1"), ({"device": "cuda"}, "0")])
def test_a_training_is_told_its_host(device, variable, monkeypatch, tmp_path):
    fake_verl(monkeypatch, "import os, pathlib; pathlib.Path('host').write_text(os.environ['ENTROPO_CPU'])")
    launch.train(tmp_path / "run", [], lambda line: None, **device)
    assert (tmp_path / "run" / "host").read_text() == variable


def test_steps_arrive_as_they_are_logged_and_a_half_line_waits(monkeypatch, tmp_path):
    code = (
        "import os, time; f = open(os.environ['VERL_FILE_LOGGER_PATH'], 'w')\n"
        'f.write(\'{"step": 1, "data": {}}\\n{"step": 2,\'); f.flush()\n'
        "while not os.path.exists('seen'): time.sleep(0.05)\n"
        "f.write(' \"data\": {}}\\n'); f.close()"
    )
    fake_verl(monkeypatch, code)
    seen = []

    def on_step(line):
        seen.append((line["step"], (tmp_path / "seen").exists()))
        (tmp_path / "seen").touch()

    launch.train(tmp_path, [], on_step)
    assert seen == [(1, False), (2, True)]


TITLED = "import setproctitle, sys, time; setproctitle.setproctitle(sys.argv[1]); print(flush=True); sys.stdin.read()"
# A server titled as vLLM titles it is killed or ends normally once it has been seen; the driver then works on.
DRIVER = """
import os, subprocess, sys, time
command = [sys.executable, "-c", sys.argv[1], "VLLM::EngineCore"]
server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
server.stdout.readline()
while not os.path.exists("seen"): time.sleep(.05)
server.kill() if sys.argv[2] == "killed" else server.stdin.close()
if sys.argv[3] == "reaped": server.wait()
while not os.path.exists("forgotten"): time.sleep(.05)
"""


def watched(monkeypatch, folder):
    """Files that say what the watchdog has seen, so that the driver need not guess."""
    check = vital.Vital.check

    def checked(self):
        check(self, every=0)
        if self.seen:
            (folder / "seen").touch()
        elif (folder / "seen").exists():
            (folder / "forgotten").touch()

    monkeypatch.setattr(vital.Vital, "check", checked)
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("reaped", ["reaped", "zombie"])
def test_a_dead_server_that_the_driver_waits_for_ends_the_run_by_name(monkeypatch, tmp_path, capfd, reaped):
    watched(monkeypatch, tmp_path)
    assert launch.launch([sys.executable, "-c", DRIVER, TITLED, "killed", reaped], grace=0.5) == 1
    assert "VLLM::EngineCore" in (said := capfd.readouterr().err) and "verl still waits for it" in said


@pytest.mark.parametrize("reaped", ["reaped", "zombie"])
def test_a_server_that_ended_normally_is_no_death(monkeypatch, tmp_path, reaped):
    """An evaluation or a merge after the training: the driver works on, longer than the grace."""
    watched(monkeypatch, tmp_path)
    assert launch.launch([sys.executable, "-c", DRIVER, TITLED, "ended", reaped], grace=0) == 0


class Titled:
    """A living process of that title."""

    def __init__(self, title):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", TITLED, title], **pipes)
        self.process.stdout.readline()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Run:
    """What :class:`Vital` sees of a family."""

    def __init__(self, *members):
        self.processes = [psutil.Process(member.process.pid) for member in members]

    def look(self):
        return [process for process in self.processes if process.is_running()]


@pytest.mark.parametrize("known", [True, False], ids=["Linux 6.15", "before"])
def test_a_dead_worker_is_missed_while_its_task_runner_lives(monkeypatch, known):
    if not known:
        monkeypatch.setattr(vital, "exit_handle", lambda pid: None)
    runner, worker = Titled("ray::TaskRunnerV1.run"), Titled("ray::WorkerDict.update_actor")
    watch = vital.Vital(Run(runner, worker), grace=0)
    watch.check(every=0)
    worker.kill()
    with pytest.raises(launch.TrainingFailed, match="ray::WorkerDict.update_actor .* died"):
        for _ in range(2):
            watch.check(every=0)
    runner.kill()
    watch.check(every=0)
    assert worker.process.pid not in {process.pid for process in watch.seen}


def test_workers_that_end_with_their_task_runner_are_not_missed():
    """Ray ends what an ended owner leaves with exit code 1, and so it does at ``ray.shutdown()``."""
    first = [Titled("ray::TaskRunnerV1"), Titled("ray::WorkerDict"), Titled("VLLM::EngineCore")]
    second = [Titled("ray::TaskRunnerV1"), Titled("ray::WorkerDict")]
    run = Run(*first)
    watch = vital.Vital(run, grace=0)
    watch.check(every=0)
    first[0].process.stdin.close()
    first[0].process.wait()
    for other in first[1:]:
        other.kill()
    run.processes += Run(*second).processes
    for _ in range(3):
        watch.check(every=0)
    assert len(watch.seen) == 2
    for other in second:
        other.kill()


def test_a_title_is_given_without_the_blanks_that_fill_its_place():
    titled = Titled("ray::WorkerDict" + " " * 50)
    assert launch.title(psutil.Process(titled.process.pid)) == "ray::WorkerDict"
    titled.kill()


def test_how_a_process_ended_is_known():
    assert exit_status(psutil.Process(), exit_handle(os.getpid())) is None
    for code, status in (("pass", 0), ("import sys; sys.exit(3)", 3 << 8), ("import os; os.kill(os.getpid(), 9)", 9)):
        child = subprocess.Popen([sys.executable, "-c", f"input(); {code}"], stdin=subprocess.PIPE)
        process, handle = psutil.Process(child.pid), exit_handle(child.pid)
        child.stdin.write(b"\n")
        child.stdin.close()
        until(lambda process=process: process.status() == psutil.STATUS_ZOMBIE)
        assert exit_status(process, None) == status
        child.wait()
        assert exit_status(process, handle) in (status, None)  # None before Linux 6.15
        os.close(handle)


def test_launch_returns_the_commands_own_status_and_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(launch.uuid, "uuid4", lambda: type("Id", (), {"hex": "launched"}))
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True); sys.exit(7)"
    assert launch.launch([sys.executable, "-c", code]) == 7
    assert launch.marked("launched") == []


def test_a_command_that_a_signal_ended_has_the_status_of_a_shell():
    assert launch.launch([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_the_handlers_of_before_are_there_again():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    launch.launch([sys.executable, "-c", "pass"])
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_command_that_cannot_be_run_is_said(tmp_path, capfd):
    assert cli.main(["launch", "--", "no-such-command", "a"]) == 127
    assert "entropo launch: no-such-command cannot be run: No such file or directory" in capfd.readouterr().err
    (tmp_path / "text").write_text("no program")
    assert cli.main(["launch", "--", str(tmp_path / "text")]) == 126
    assert "Permission denied" in capfd.readouterr().err


@pytest.mark.parametrize("grace", ["nan", "-1", "inf", "-inf", "1e300"])
def test_a_grace_that_is_no_time_is_refused_by_name(grace, capfd):
    assert cli.main(["launch", f"--grace={grace}", "--", "true"]) == 2
    assert f"--grace={float(grace):g}: set it to a number of seconds in [0, 604800]" in capfd.readouterr().err


def test_a_failure_shows_its_last_words(monkeypatch, tmp_path):
    fake_verl(monkeypatch, "print('noise'); raise RuntimeError('no luck')")
    with pytest.raises(
        launch.TrainingFailed, match=r"exit status 1.\nRuntimeError: no luck\nIts whole log: .*train.log"
    ):
        launch.train(tmp_path, [], lambda line: None)


def test_a_training_that_stands_still_is_ended(monkeypatch, tmp_path):
    fake_verl(monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(launch.TrainingFailed, match="no step in 1 s"):
        launch.train(tmp_path, [], lambda line: None, stall_seconds=1)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_a_demo_ends_its_training(tmp_path, number, status):
    """As ``entropo demo`` trains: in a process of its own, with what it started looked at from outside."""
    code = f"import os, sys, time\nprint(os.getpid(), file=open({str(tmp_path / 'pid')!r} + '.part', 'w'), flush=True)"
    code += f"\nos.rename({str(tmp_path / 'pid')!r} + '.part', {str(tmp_path / 'pid')!r})\ntime.sleep(600)"
    demo = (
        "import subprocess, sys\nfrom pathlib import Path\nfrom entropo_plugin import launch\n"
        "popen = subprocess.Popen\n"
        f"subprocess.Popen = lambda command, **rest: popen([sys.executable, '-c', {code!r}], **rest)\n"
        f"try:\n    launch.train(Path({str(tmp_path)!r}), [], print)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", demo], cwd="/", preexec_fn=default_signals)
    until(lambda: (tmp_path / "pid").exists())
    process.send_signal(number)
    assert process.wait(PATIENT) == status
    assert not lives(int((tmp_path / "pid").read_text()))
