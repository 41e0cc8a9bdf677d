import json
import os
import signal
import stat
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from entropo_plugin.report import command, main, watch
from entropo_plugin.report.command import seconds
from entropo_plugin.report.files import ReportError
from entropo_plugin.report.output import replaceable, write_whole

ENTROPY = "entropo/entropy/token_mean"


def test_writes_the_report_and_says_so(full, tmp_path, capsys):
    out = tmp_path / "new" / "r.html"
    assert main([str(full("a/metrics.jsonl")), "--out", str(out)]) == 0
    assert out.read_text().startswith("<!doctype html>")
    assert capsys.readouterr().out == f"a: to step 24\nreport: {out}\n"


def test_says_what_cannot_be_read(tmp_path, capsys):
    assert main([str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "r.html")]) == 2
    assert "none.jsonl does not exist. Give a log" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_notes_go_to_stderr(log, tmp_path, capsys):
    main([str(log("a.jsonl", {1: {ENTROPY: 1.0}}, end='\n{"st')), "--out", str(tmp_path / "r.html")])
    assert "note: a: a.jsonl ends within a line" in capsys.readouterr().err


def test_writes_pngs_of_the_same_pictures(full, tmp_path):
    pytest.importorskip("matplotlib")
    main([str(full("a_$x$/metrics.jsonl")), "--out", str(tmp_path / "r.html"), "--png", str(tmp_path / "png")])
    names = {path.stem for path in (tmp_path / "png").iterdir()}
    assert names == {"overview", "control", "pass", "law", "accounting", "quantiles"}
    assert (tmp_path / "png" / "overview.png").read_bytes()[:4] == b"\x89PNG"


def test_missing_matplotlib_names_the_extra(full, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(full("a/metrics.jsonl")), "--out", str(tmp_path / "r.html"), "--png", str(tmp_path)]) == 2
    assert "pip install 'entropo-plugin[report]'" in capsys.readouterr().err


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "r.html"
    write_whole(path, "old")
    with pytest.raises(TypeError):
        write_whole(path, None)
    assert [each.name for each in tmp_path.iterdir()] == ["r.html"]
    assert path.read_text() == "old"


def test_seconds_are_positive():
    assert seconds("0.5") == 0.5
    for wrong in ("0", "-1", "nan"):
        with pytest.raises(Exception, match="positive number of seconds"):
            seconds(wrong)


def test_of_a_hundred_thousand_steps_the_page_keeps_the_extremes_and_stays_small(tmp_path):
    names = [ENTROPY, "critic/score/mean", "entropo/zeta", "entropo/dynamics/predicted", "entropo/pass_at/1"]
    names += [f"entropo/entropy/{q}" for q in ("q05", "q25", "q50", "q75", "q95")] + [f"perf/{i}" for i in range(20)]
    values = np.random.default_rng(0).random((100_000, len(names)))
    values[54_321, 0] = 7.0
    path, out = tmp_path / "long.jsonl", tmp_path / "r.html"
    with path.open("w") as log:
        for step, row in enumerate(values.tolist()):
            log.write(json.dumps({"step": step, "data": dict(zip(names, row, strict=True))}) + "\n")
    assert main([str(path), "--out", str(out)]) == 0
    assert out.stat().st_size < 1_000_000
    assert "<td>7</td>" in out.read_text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("inherited", [signal.SIG_IGN, signal.default_int_handler], ids=["ignored", "default"])
def test_watch_draws_again_and_ends_with_a_page_that_stands_still(log, tmp_path, number, status, inherited):
    """A shell starts what a script puts into the background with SIGINT ignored, and children inherit that."""
    path, out = log("a.jsonl", {1: {ENTROPY: 1.0}}, end=""), tmp_path / "r.html"
    path.unlink()
    program = "import sys; from entropo_plugin.report import main; sys.exit(main(sys.argv[1:]))"
    args = [sys.executable, "-c", program, str(path), "--out", str(out), "--watch", "0.1"]
    before = signal.signal(signal.SIGINT, inherited)
    try:
        process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            assert "waiting" in process.stderr.readline()
            log("a.jsonl", {1: {ENTROPY: 1.0}})
            until(lambda: out.exists() and "; 1 steps." in out.read_text())
            assert 'http-equiv="refresh"' in out.read_text()
            log("a.jsonl", {1: {ENTROPY: 1.0}, 2: {ENTROPY: 0.9}})
            until(lambda: "; 2 steps." in out.read_text())
            process.send_signal(number)
            assert process.wait() == status
        finally:
            process.kill()
    assert 'http-equiv="refresh"' not in out.read_text()


def until(done):
    """Wait without a limit of our own: how long a step takes is the machine's affair."""
    while not done():
        time.sleep(0.05)


@pytest.fixture
def rounds(monkeypatch):
    """Ends a watch after some rounds, and counts how often it drew."""

    def start(args, count):
        drawn, slept = [], []

        def wait(got, seconds):
            slept.append(seconds)
            if len(slept) > count:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)  # a second one changes nothing
            return real(got, 0)

        real = watch._wait
        monkeypatch.setattr(watch, "_wait", wait)
        monkeypatch.setattr(
            command, "once", lambda options, refresh=None: drawn.append(refresh) or once(options, refresh)
        )
        assert main(args) == 0
        return drawn

    once = command.once
    return start


def test_watch_does_not_take_its_own_page_for_a_change(full, tmp_path, rounds):
    folder = full("runs/a/metrics.jsonl").parent
    args = [str(folder), "--out", str(folder / "r.html"), "--watch", "7"]
    assert rounds(args, 5) == [7.0, None]


def test_the_handlers_come_back_after_a_watch(full, tmp_path, rounds):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    rounds([str(full("a/metrics.jsonl")), "--out", str(tmp_path / "r.html"), "--watch"], 2)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_findings_as_json_with_an_exit_status(log, full, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(log("held.jsonl", {t: {ENTROPY: 1.0} for t in range(1, 11)})), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    sentence = "held: 1 to 1 nats per token (\u00b10%) in 10 steps."
    held = {"mood": "fact", "headline": "Entropy held", "page": "report.html#entropy-held"}
    assert (said["format"], said["status"]) == (1, 0)
    assert said["findings"] == [{"run": "held", "sentence": sentence, **held}]
    assert said["runs"] == [
        {
            "name": "held",
            "last_step": 10,
            "line": "",
            "notes": [],
            "verdict": {"sentence": "entropy 1 \u2192 1; 10 steps.", **held},
            "cost": {"no_gradient": None, "all_right": None, "all_wrong": None},
            "command": "",
            "started": "",
            "versions": {},
        }
    ]
    assert main([str(log("fell.jsonl", {t: {ENTROPY: 1.0 / t} for t in range(1, 11)})), "--json"]) == 1
    assert main([str(tmp_path / "none.jsonl"), "--json"]) == 2
    assert not list(tmp_path.glob("*.html"))
    capsys.readouterr()
    assert main([str(full("a/metrics.jsonl")), "--json", "--out", "r.html"]) == 1
    assert json.loads(capsys.readouterr().out)["runs"][0]["last_step"] == 24
    assert (tmp_path / "r.html").exists()


def test_json_is_said_once(full, capsys):
    assert main([str(full("a/metrics.jsonl")), "--json", "--watch"]) == 2
    assert "leave --watch out" in capsys.readouterr().err


def test_names_that_the_terminal_cannot_show_are_replaced(log, tmp_path):
    program = "import sys; from entropo_plugin.report import main; sys.exit(main(sys.argv[1:]))"
    args = [
        sys.executable,
        "-c",
        program,
        str(log("\u00e9t\u00e9/metrics.jsonl", {1: {ENTROPY: None}})),
        "--out",
        "r.html",
    ]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(args, cwd=tmp_path, env=ascii_only, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "?t?: to step 1\nreport: r.html\n")


@pytest.mark.parametrize("name", ["a.jsonl", "a.run.json", "a.tokens.jsonl", "tokens.jsonl", "new.jsonl"])
def test_the_page_never_takes_the_place_of_a_log(log, tmp_path, capsys, name):
    path = log("a.jsonl", {1: {ENTROPY: 1.0}})
    for side in ("a.run.json", "a.tokens.jsonl", "tokens.jsonl"):
        (tmp_path / side).write_text("{}")
    before = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert main([str(path), "--out", str(tmp_path / name)]) == 2
    assert "by its name it is a log; give a name that ends in .html" in capsys.readouterr().err
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_the_page_never_goes_over_an_input_under_another_name(log, tmp_path, capsys, link):
    path = log("a.jsonl", {1: {ENTROPY: 1.0}})
    getattr(tmp_path / "r.html", link)(path)
    assert main([str(path.parent), "--out", str(tmp_path / "r.html")]) == 2
    assert "the report is drawn from this file" in capsys.readouterr().err
    odd = path.rename(tmp_path / "log.txt")
    assert main([str(odd), "--out", str(odd)]) == 2


@pytest.mark.parametrize("name", ["there", "new/"])
def test_a_folder_takes_the_report_under_its_usual_name(log, tmp_path, capsys, name):
    (tmp_path / "there").mkdir()
    assert main([str(log("a.jsonl", {1: {ENTROPY: 1.0}})), "--out", f"{tmp_path}/{name}"]) == 0
    assert f"report: {tmp_path / name / 'entropo-report.html'}" in capsys.readouterr().out
    assert (tmp_path / name / "entropo-report.html").is_file()


def test_a_page_that_cannot_be_written_names_no_temporary_file(log, tmp_path, capsys):
    path = log("a.jsonl", {1: {ENTROPY: 1.0}})
    (tmp_path / "file").write_text("")
    assert main([str(path), "--out", f"{tmp_path}/file/r.html"]) == 2
    assert f"{tmp_path}/file/r.html" in (said := capsys.readouterr().err) and ".part" not in said
    with pytest.raises(ReportError, match="/proc/r.html cannot be written: .* Give another --out."):
        write_whole(Path("/proc/r.html"), "")


def test_the_page_replaces_no_device_or_pipe(log, tmp_path, capsys):
    path = log("a.jsonl", {1: {ENTROPY: 1.0}})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    kinds = {"/dev/null": "a device", "null": "a device", "pipe": "a pipe"}
    for name, kind in kinds.items():
        assert main([str(path), "--out", str(tmp_path / name)]) == 2
        assert f"{tmp_path / name} is {kind}, which a report does not replace" in capsys.readouterr().err
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/new.html", "/proc/new.html", "/sys/new.html", "link/new.html"])
def test_the_page_takes_no_name_of_the_systems(tmp_path, name):
    """/dev/stdout is a link to what may be a file; root could replace it, so only the check is asked here."""
    (tmp_path / "link").symlink_to("/dev")
    with pytest.raises(ReportError, match="which a report does not replace"):
        replaceable(tmp_path / name)
    assert replaceable(Path("/dev/shm/new.html")) and replaceable(tmp_path / "dev" / "stdout")


def test_no_control_character_of_a_log_reaches_the_terminal(log, tmp_path, capsys):
    name = "entropo/\x1b]0;owned\x07\x9b2J\u202e\nreport: /etc/passwd"
    path = log("a.jsonl", {1: {ENTROPY: 1.0, name: None}})
    main([str(path), "--out", str(tmp_path / "r.html")])
    bad = log("b\x1b[2J/metrics.jsonl", {1: {"loss": 1.0}})
    main([str(path), str(bad), "--out", str(tmp_path / "r.html")])
    said = "".join(capsys.readouterr())
    assert not [char for char in said if unicodedata.category(char) in ("Cc", "Cf") and char != "\n"]
    assert "\nreport: /etc" not in said


def test_the_demo_needs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--demo"]) == 0
    assert capsys.readouterr().out.startswith("grpo: to step 42\n")
    html = (tmp_path / "entropo-report.html").read_text()
    assert len(html) < 1_000_000
    assert html.count('<mark class="heat') >= 24
    for wrong in (["--demo", "x.jsonl"], []):
        assert main(wrong) == 2
        assert "Give either --demo or runs" in capsys.readouterr().err


def test_json_has_a_verdict_a_run_and_what_it_cost(capsys):
    # REPO-R of the demo stands at its bound, off its target
    assert main(["--demo", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == 1
    assert said["runs"][0]["verdict"]["sentence"] == (
        "entropy 1.49 \u2192 0.607, held-out pass@32 (held_out/acc) 0.991 \u2192 0.999, "
        "reward 0.263 \u2192 0.685; 42 steps."
    )
    assert said["runs"][0]["cost"]["no_gradient"] == pytest.approx(0.060, abs=0.001)
    assert said["runs"][2]["verdict"]["headline"] == "Off target"
