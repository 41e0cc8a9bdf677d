import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import entropo_plugin.report
from entropo_plugin.report.page import build, policy, render
from entropo_plugin.report.runs import read_runs
from entropo_plugin.report.words import UNPRINTABLE, clean

HOSTILE = "</p></script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x00\ud800\"'&"


def page(*paths):
    runs = read_runs([str(path) for path in paths])
    return render(runs, build(runs))


class Elements(HTMLParser):
    """Counts start tags, and collects every attribute."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture
def hostile(full):
    path = full("<b onclick=alert(1)>&'/metrics.jsonl")
    record = {
        "step": 1,
        "uid": HOSTILE,
        "token": HOSTILE,
        "context_before": HOSTILE,
        "context_after": HOSTILE,
        "cost": 2,
    }
    (path.parent / "tokens.jsonl").write_text(json.dumps(record) + "\n")
    with path.open("a") as log:
        log.write(json.dumps({"step": 30, "data": {f"val-core/{HOSTILE}/acc/mean@8": 0.5}}) + "\n")
    return path


def test_text_of_a_run_never_becomes_markup(hostile):
    found = Elements(page(hostile))
    assert found.tags.count("script") == 2
    assert not {"img", "b&", "iframe", "link", "object"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]


def test_text_is_cleaned_and_escaped(hostile):
    assert clean('<b> & "\u202e\x00\ud800') == '<b> & "\ufffd\ufffd\ufffd'
    html = page(hostile)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "\\u003cscript>alert(1)" in html
    assert not UNPRINTABLE.search(html) and "\\u202e" not in html


def test_the_page_is_one_file_that_fetches_nothing(full):
    html = page(full("a/metrics.jsonl"), full("b/metrics.jsonl", fall=0.01))
    html.encode("utf-8")
    found = Elements(html)
    assert not [value for name, value in found.attributes if name in ("src", "href") and not value.startswith("#")]
    assert not re.findall(r"url\(|@import", html)
    addresses = set(re.findall(r"https?://[^\s\"')]+", html))
    assert addresses == {"https://github.com/leeoniya/uPlot"}  # a comment in its source
    assert found.tags.index("meta") < found.tags.index("style")


def test_the_policy_allows_our_style_and_script_by_their_hashes_alone(full):
    assert policy("a", "b") == (
        "default-src 'none'; script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='; "
        "style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='; base-uri 'none'; form-action 'none'"
    )
    html = unescape(page(full("a/metrics.jsonl")))
    style, script = (re.search(f"<{tag}>(.*?)</{tag}>", html, re.S)[1] for tag in ("style", "script"))
    assert html.count("<style") == 1 and html.count("<script") == 2  # the other one holds numbers
    assert policy(style, script) in html


def test_every_section_has_a_heading_and_every_link_a_goal(full):
    html = page(full("a/metrics.jsonl"))
    goals = set(re.findall(r'<section id="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= goals
    assert {"overview", "findings", "control", "pass", "law", "accounting", "quantiles", "comparison"} <= goals


def test_a_section_that_has_nothing_is_named_at_the_end(full):
    html = page(full("a/metrics.jsonl"))
    assert 'id="tokens"' not in html
    assert html.index("Not in these logs") < html.index("a has no side file tokens.jsonl.")


def test_every_picture_has_its_numbers(full):
    html = page(full("a/metrics.jsonl"))
    charts = json.loads(re.search(r'id="data">(.*?)</script>', html)[1])["charts"]
    assert set(re.findall(r'data-chart="([^"]+)"', html)) == set(charts)
    first = charts["overview-0"]
    assert (first["title"], first["zero"]) == ("Entropy and its target (dashed)", True)
    assert (first["x_label"], first["y_label"]) == ("step", "nats per token")
    assert first["curves"][0]["points"][0][:2] == [1, 2] and first["curves"][0]["points"][1][:2] == [1.45, 1.4]


def test_one_point_and_constant_series_can_be_drawn(log):
    html = page(log("a.jsonl", {5: {"entropo/entropy/token_mean": 0.0, "critic/score/mean": 1e-30}}))
    assert '"points":[[5],[1e-30]]' in html


def test_a_finding_links_to_its_page_where_the_package_names_one(full, monkeypatch):
    path = full("a/metrics.jsonl")
    assert "docs/report.md#off-target" in page(path)
    monkeypatch.setattr("entropo_plugin.report.page._documentation", lambda: "https://docs.example")
    assert '<a href="https://docs.example/report.html#off-target" rel="noreferrer">' in page(path)


def test_the_page_says_how_the_run_began(log):
    path = log("a/metrics.jsonl", {1: {"actor/entropy": 1.0}})
    path.with_name("metrics.run.json").write_text(json.dumps({"format": 1, "line": "entropo: active"}))
    assert "<b>a</b> entropo: active" in page(path)


DOCS = Path(__file__).parents[2] / "docs" / "report.md"


def test_every_headline_has_its_heading_in_the_documentation():
    folder = Path(entropo_plugin.report.__file__).parent / "findings"
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    named = set(re.findall(r'Finding\(\s*"[a-z]+"[^"]*"([A-Z][^"]+)"', source))
    headings = {line[4:] for line in DOCS.read_text().splitlines() if line.startswith("### ")}
    assert {"Entropy collapsed", "On target", "Floor ahead", "Runs part"} <= named <= headings
