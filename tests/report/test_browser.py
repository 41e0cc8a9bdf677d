"""The report in a real browser. Each probe is a script that writes what it sees into the page's title."""

import json
import re
import shutil
import subprocess

import pytest

from entropo_plugin.report import main

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
]
DARK = "--blink-settings=preferredColorScheme=0"
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.fixture(scope="session")
def chromium():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.fail(
            "These tests open the report in Chromium: apt-get update && apt-get install -y chromium", pytrace=False
        )
    return found


@pytest.fixture
def browse(chromium, tmp_path):
    """Opens a file; returns its DOM afterwards and the lines that the page wrote to the console."""

    def run(path, *flags, width=1280, height=1600):
        own = [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},{height}", "--dump-dom", *flags]
        done = subprocess.run([chromium, *FLAGS, *own, path.as_uri()], capture_output=True, text=True, timeout=3600)
        shutil.rmtree(tmp_path / "profile", ignore_errors=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


@pytest.fixture
def report(full, tmp_path):
    """Two runs, one with hostile tokens."""
    path, other = full("repo_r/metrics.jsonl", fall=0.01), full("grpo/metrics.jsonl")
    bad = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    record = {"step": 1, "uid": "u", "token": bad, "context_before": bad, "context_after": bad, "cost": 1.0}
    (path.parent / "tokens.jsonl").write_text(json.dumps(record) + "\n")
    out = tmp_path / "report.html"
    assert main([str(path.parent), str(other), "--out", str(out)]) == 0
    return out


def probed(report, script):
    """A copy without the policy, in which a script writes its answer into the title."""
    html = POLICY.sub("", report.read_text())
    copy = report.with_name("probed.html")
    copy.write_text(html.replace("</body>", f"<script>document.title = JSON.stringify({script});</script></body>"))
    return copy


def framed(page, width):
    """A page that shows another in a frame of that width, because Chromium's windows are never below 500 pixels."""
    html = page.read_text().replace("document.title = JSON.stringify(", "parent.postMessage(JSON.stringify(")
    page.write_text(html.replace(");</script></body>", "), '*');</script></body>"))
    frame = page.with_name("frame.html")
    frame.write_text(
        "<!doctype html><title></title><script>onmessage = (e) => (document.title = e.data)</script>"
        f'<iframe src="{page.name}" width="{width}" height="2000" frameborder="0"></iframe>'
    )
    return frame


def answer(dom):
    title = re.search(r"<title>(.*?)</title>", dom, re.S)[1]
    return json.loads(title.replace("&quot;", '"').replace("&amp;", "&"))


def test_loads_without_a_word_on_the_console(browse, report):
    dom, console = browse(report)
    assert console == []
    assert "<title>repo_r, grpo \u00b7 entropo report</title>" in dom


def test_a_script_that_slipped_in_would_not_run(browse, report):
    html = report.read_text().replace("</main>", "<script>document.title = 'pwned'</script></main>")
    report.write_text(html)
    dom, console = browse(report)
    assert "<title>pwned" not in dom
    assert "Content Security Policy" in console[0]


@pytest.mark.parametrize("width", [1280, 760, 390])
def test_nothing_is_wider_than_the_screen(browse, report, width):
    script = (
        "[document.documentElement.scrollWidth, innerWidth, "
        "[...document.querySelectorAll('.chart')].filter(c => c.clientWidth).map(c => c.classList[1])]"
    )
    dom, _ = browse(framed(probed(report, script), width))
    needed, given, shown = answer(dom)
    assert needed <= given == width
    assert set(shown) == ({"narrow"} if width <= 760 else {"wide", "half"})


def test_text_is_large_enough_to_read_on_a_phone(browse, report):
    script = (
        "Math.min(...[...document.querySelectorAll('.chart.narrow text')].map(t => t.getBoundingClientRect().height))"
    )
    dom, _ = browse(framed(probed(report, script), 390))
    assert answer(dom) >= 11


def test_dark_mode_turns_page_and_text(browse, report):
    script = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    light, dark = (answer(browse(probed(report, script), *flags)[0]) for flags in ((), (DARK,)))
    assert light == ["rgb(246, 245, 241)", "rgb(28, 30, 33)"]
    assert dark == ["rgb(20, 22, 26)", "rgb(236, 234, 228)"]


def test_the_read_out_tells_the_numbers_under_the_pointer(browse, report):
    script = """(() => {
      const chart = document.querySelector("#entropy .chart.wide"), box = chart.getBoundingClientRect();
      chart.dispatchEvent(new PointerEvent("pointermove", {clientX: box.right - 1, clientY: box.top + 50}));
      const rows = [...document.querySelectorAll(".tip div")].map((row) => [...row.children].map((c) => c.textContent));
      chart.dispatchEvent(new PointerEvent("pointerleave", {}));
      return [rows, document.querySelectorAll(".tip").length];
    })()"""
    rows, left = answer(browse(probed(report, script))[0])
    assert rows[0] == ["step", "24"]
    read = {name: float(value) for name, value in rows[1:]}
    assert set(read) == {"repo_r", "repo_r: target", "grpo", "grpo: target"}
    assert read["grpo"] == pytest.approx(0.3, abs=0.005)
    assert read["repo_r"] == pytest.approx(1.26, abs=0.005)
    assert left == 0


def test_the_arrow_keys_read_out_too(browse, report):
    script = """(() => {
      const chart = document.querySelector("#entropy .chart.wide");
      for (let i = 0; i < 80; i++) chart.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true}));
      return document.querySelector(".tip .head").textContent;
    })()"""
    assert answer(browse(probed(report, script))[0]) == "step1"
