"""The report in a real browser. Each probe is a script that writes what it sees into the page's title."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

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
    "--virtual-time-budget=60000",
]
DARK = "--blink-settings=preferredColorScheme=0"
ENTROPY = "entropo/entropy/token_mean"
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.fixture(scope="session")
def chromium():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.fail(
            "These tests open the report in Chromium: apt-get update && apt-get install -y chromium", pytrace=False
        )
    return found


@pytest.fixture(scope="session")
def browse(chromium, tmp_path_factory):
    """Opens a file; returns its DOM afterwards and the lines that the page wrote to the console."""
    tmp_path = tmp_path_factory.mktemp("browser")

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


@pytest.fixture(scope="session")
def seeds(tmp_path_factory):
    """Ten runs: two seeds of one configuration, 200 noisy steps with tokens and time, and eight others."""
    folder, out = tmp_path_factory.mktemp("seeds"), tmp_path_factory.mktemp("page") / "report.html"
    names = ["grpo-seed10", "grpo-seed2", *(f"other{i}" for i in range(8))]
    for place, name in enumerate(names):
        lines = []
        for t in range(1, 201):
            data = {ENTROPY: 1 + place + 0.1 * (-1) ** t, "critic/score/mean": 0.01 * t, "entropo/target": 1.0}
            data |= {"perf/total_num_tokens": 1000.0, "timing_s/step": 36.0}
            lines.append(json.dumps({"step": t, "data": data}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    assert main([str(folder), "--out", str(out)]) == 0
    return out


def probed(report, script):
    """A copy without the policy, in which a script (async, returning its answer) writes it into the title."""
    html = re.sub("<title>.*?</title>", "<title></title>", POLICY.sub("", report.read_text()), count=1)
    copy = report.with_name("probed.html")
    run = f"({script})().catch(String).then((said) => (document.title = JSON.stringify(said)));"
    copy.write_text(html.replace("</body>", f"<script>{run}</script></body>"))
    return copy


def framed(page, width):
    """A page that shows another in a frame of that width, because Chromium's windows are never below 500 pixels."""
    html = page.read_text()
    page.write_text(
        html.replace("(document.title = JSON.stringify(said))", "parent.postMessage(JSON.stringify(said), '*')")
    )
    frame = page.with_name("frame.html")
    frame.write_text(
        "<!doctype html><title></title><script>onmessage = (e) => (document.title = e.data)</script>"
        f'<iframe src="{page.name}" width="{width}" height="1500" frameborder="0"></iframe>'
    )
    return frame


def answer(dom):
    return json.loads(unescape(re.search(r"<title>(.*?)</title>", dom, re.S)[1]))


def test_loads_without_a_word_on_the_console(browse, report):
    dom, console = browse(report)
    assert console == []
    assert "<title>repo_r, grpo \u00b7 entropo report</title>" in dom
    assert dom.count("<canvas") == dom.count('class="chart"')


def test_a_script_that_slipped_in_would_not_run(browse, report):
    html = report.read_text().replace("</main>", "<script>document.title = 'pwned'</script></main>")
    report.write_text(html)
    dom, console = browse(report)
    assert "<title>pwned" not in dom
    assert "Content Security Policy" in console[0]


SCREENS = {
    "wide": (1280, ()),
    "wide dark": (1280, (DARK,)),
    "tablet": (760, ()),
    "phone": (390, ()),
    "phone dark": (390, (DARK,)),
}
USE = (Path(__file__).parent / "use.js").read_text()


@pytest.fixture(scope="session", params=SCREENS)
def used(request, browse, seeds):
    """What use.js saw when it used the page on one screen."""
    width, flags = SCREENS[request.param]
    page = probed(seeds, USE)
    shown = framed(page, width) if width < 800 else page
    # virtual time can be over on a busy machine before the page has spoken: the title is empty then
    tries = (browse(shown, *flags)[0] for _ in range(5))
    said = answer(next(dom for dom in tries if "<title></title>" not in dom))
    assert isinstance(said, dict), said
    return said | {"screen": request.param}


def test_nothing_is_wider_than_the_screen(used):
    needed, given = used["width"]
    assert needed <= given == SCREENS[used["screen"]][0]


def test_text_is_large_enough_to_read(used):
    assert used["smallest"] >= 11


def test_dark_mode_turns_page_text_and_curves(used):
    page, ink, curve = (
        ("#0f1217", "#e6e9ef", "#6ea8ff") if "dark" in used["screen"] else ("#f5f6f8", "#1a1f29", "#1f62b8")
    )
    assert used["colours"] == [page, ink]
    assert used["drawn"][curve] > 100


def test_the_first_screen_holds_verdicts_and_pictures(used):
    assert used["verdicts"] == 10
    if used["screen"].startswith("wide"):
        assert used["bottom"] < 900  # of the first row of pictures, before any scrolling


def test_seeds_of_one_configuration_are_one_mean_with_a_band(used):
    assert used["names"][:2] == ["grpo 2 seeds", "other0 200 steps"]
    assert used["lines"]["mean"][:2] == ["other0", "other0: target"]
    assert {"grpo", "grpo: target"} <= set(used["lines"]["mean"])
    assert used["lines"]["each"][:4] == ["grpo-seed2", "grpo-seed2: target", "grpo-seed10", "grpo-seed10: target"]
    assert used["legend"] == {"mean": 9, "each": 10}


def test_a_click_on_the_legend_hides_a_run_and_brings_it_back(used):
    assert "grpo-seed2" not in used["lines"]["hidden"] and "grpo-seed10" in used["lines"]["hidden"]
    assert used["pressed"] == ["false", "true"]
    assert used["lines"]["again"] == used["lines"]["each"]


def test_the_read_out_tells_the_numbers_under_the_pointer(used):
    rows = used["read"]["pointer"]
    assert rows[0][0] == "step" and 90 <= int(rows[0][1]) <= 110
    read = {name: float(value) for name, value in rows[1:]}
    assert read["grpo-seed2"] == pytest.approx(2.0, abs=0.03)  # smoothed: the noise is 0.1
    assert read["other3"] == pytest.approx(6.0, abs=0.03)
    assert used["read"]["left"] == 0


def test_the_arrow_keys_read_out_too(used):
    assert used["read"]["keys"][0] == ["step", "2"]


def test_smoothing_can_be_turned_off(used):
    assert dict(used["read"]["raw"])["grpo-seed2"] == "2.1"


def test_x_by_tokens_or_time(used):
    assert used["read"]["tokens"][0] == ["tokens", "2000"]
    assert used["read"]["hours"][0] == ["hours", "0.02"]


def test_a_logarithmic_scale_moves_the_points(used):
    linear, log = used["places"]
    assert linear != log


def test_dragging_zooms_every_picture_and_the_button_resets(used):
    zoomed, back = used["zoomed"], used["read"]["reset"]
    assert 40 <= int(zoomed["first"][0][1]) <= 60 and zoomed["other"] == zoomed["first"][0]
    assert zoomed["button"] == [False, True]
    assert back[0] == ["step", "1"]


def test_the_numbers_of_a_picture_as_csv(used):
    name, first, *others = used["csv"]
    assert name == "overview-0.csv"
    assert first.split(",")[:4] == ["step", "grpo-seed2", "grpo-seed2: target", "grpo-seed10"]
    assert others[0].split(",")[:4] == ["1", "1.9", "1", "0.9"]
    assert len(others) == 200


def test_more_runs_than_colours_differ_in_dashes(used):
    assert len(set(used["swatches"])) == 10


def test_charts_are_described_for_those_who_cannot_see_them(used):
    assert used["label"].startswith("Entropy and its target (dashed). nats per token against step. other0: from ")
