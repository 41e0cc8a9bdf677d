import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from entropo_plugin.report import main
from entropo_plugin.report.command import seconds, write_whole

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
    assert names == {"entropy", "reward", "pass", "law", "accounting", "quantiles"}
    assert (tmp_path / "png" / "entropy.png").read_bytes()[:4] == b"\x89PNG"


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


def test_a_hundred_thousand_steps_are_drawn_in_time(tmp_path):
    names = [ENTROPY, "critic/score/mean", "entropo/zeta", "entropo/dynamics/predicted", "entropo/pass_at/1"]
    names += [f"entropo/entropy/{q}" for q in ("q05", "q25", "q50", "q75", "q95")] + [f"perf/{i}" for i in range(20)]
    values = np.random.default_rng(0).random((100_000, len(names)))
    values[54_321, 0] = 7.0
    path, out = tmp_path / "long.jsonl", tmp_path / "r.html"
    with path.open("w") as log:
        for step, row in enumerate(values.tolist()):
            log.write(json.dumps({"step": step, "data": dict(zip(names, row, strict=True))}) + "\n")
    started = time.monotonic()
    assert main([str(path), "--out", str(out)]) == 0
    assert time.monotonic() - started < 10
    assert out.stat().st_size < 2_000_000
    assert "<td>7</td>" in out.read_text()


def test_watch_draws_again_and_ends_with_a_page_that_stands_still(log, tmp_path):
    path, out = log("a.jsonl", {1: {ENTROPY: 1.0}}, end=""), tmp_path / "r.html"
    path.unlink()
    command = "import sys; from entropo_plugin.report import main; sys.exit(main(sys.argv[1:]))"
    args = [sys.executable, "-c", command, str(path), "--out", str(out), "--watch", "0.1"]
    with subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "waiting" in process.stderr.readline()
            log("a.jsonl", {1: {ENTROPY: 1.0}})
            until(lambda: out.exists() and "a, 1 steps" in out.read_text())
            assert 'http-equiv="refresh"' in out.read_text()
            log("a.jsonl", {1: {ENTROPY: 1.0}, 2: {ENTROPY: 0.9}})
            until(lambda: "a, 2 steps" in out.read_text())
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert 'http-equiv="refresh"' not in out.read_text()


def until(done, limit=30.0):
    end = time.monotonic() + limit
    while not done():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)
