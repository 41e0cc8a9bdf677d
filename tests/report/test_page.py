import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from entropo_plugin.report.figure import Curve, Panel
from entropo_plugin.report.page import build, policy, render
from entropo_plugin.report.runs import read_runs
from entropo_plugin.report.svg import NARROW, WIDE, draw
from entropo_plugin.report.tags import text

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
    assert found.tags.count("script") == 1
    assert not {"img", "b&", "iframe", "link", "object"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]


def test_text_is_escaped_and_cleaned():
    assert text('<b> & "\u202e\x00\ud800') == "&lt;b&gt; &amp; &quot;\ufffd\ufffd\ufffd"


def test_the_page_is_one_file_that_fetches_nothing(full):
    html = page(full("a/metrics.jsonl"), full("b/metrics.jsonl", fall=0.01))
    html.encode("utf-8")
    found = Elements(html)
    assert not [value for name, value in found.attributes if name in ("src", "href") and not value.startswith("#")]
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html)
    assert found.tags.index("meta") < found.tags.index("style")


def test_the_policy_allows_our_style_and_script_by_their_hashes_alone(full):
    assert policy("a", "b") == (
        "default-src 'none'; script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='; "
        "style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='; base-uri 'none'; form-action 'none'"
    )
    html = page(full("a/metrics.jsonl"))
    style, script = (re.search(f"<{tag}>(.*?)</{tag}>", html, re.S)[1] for tag in ("style", "script"))
    assert policy(style, script) in html


def test_every_section_has_a_heading_and_every_link_a_goal(full):
    html = page(full("a/metrics.jsonl"))
    goals = set(re.findall(r'<section id="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= goals
    assert {"findings", "entropy", "reward", "pass", "law", "accounting", "quantiles", "tokens", "comparison"} <= goals
    assert "a has no side file tokens.jsonl." in html


def test_charts_are_named_described_and_well_formed():
    panel = Panel("Entropy <x>", "step", "nats", [Curve("run & co", [1.0, 2.0, 3.0], [1.0, 0.5, 0.25], 0)], zero=True)
    for size in (WIDE, NARROW):
        root = ElementTree.fromstring(draw(panel, size, "e"))
        assert root.find("title").text == "Entropy <x>"
        assert root.find("desc").text == "nats against step. run & co: from 1 to 0.25."
        assert [each.text for each in root.iter("text")][-1] == "step"


def test_no_mark_that_turns_writing_reaches_a_picture():
    names = [f"a{mark}b" for mark in "\u061c\u200e\u200f\u202a\u202e\u2066\u2069\x1b\x9b"]
    for name in names:
        root = ElementTree.fromstring(
            draw(Panel(name, name, name, [Curve(name, [1.0, 2.0], [1.0, 2.0], 0)]), WIDE, "e")
        )
        assert root.find("title").text == "a\ufffdb"
        assert root.find("desc").text == "a\ufffdb against a\ufffdb. a\ufffdb: from 1 to 2."
        assert root.get("data-name") == "a\ufffdb"
        assert [each.get("data-label") for each in root.iter("path") if each.get("data-label")] == ["a\ufffdb"]


def test_a_curve_is_where_its_numbers_are():
    panel = Panel("t", "x", "y", [Curve("a", [0.0, 10.0], [0.0, 1.0], 0)], y_limits=(0.0, 1.0))
    root = ElementTree.fromstring(draw(panel, WIDE, "e"))
    (line,) = [each for each in root.iter("path") if each.get("data-label") == "a"]
    assert line.get("d") == "M66.0 258.00L986.0 25.92"  # 0 to 10 between the margins; 1 of 1.06 below the top


def test_one_point_and_constant_series_can_be_drawn(log):
    html = page(log("a.jsonl", {5: {"entropo/entropy/token_mean": 0.0, "critic/score/mean": 1e-30}}))
    assert not re.findall(r' (?:d|x1|y1|data-x|data-y)="[^"]*(?:nan|inf)', html)


def test_more_runs_than_colours_can_still_be_told_apart(log):
    paths = [log(f"run{i}.jsonl", {t: {"entropo/entropy/token_mean": i + t} for t in range(3)}) for i in range(10)]
    assert 'class="line solid c1 second" data-label="run9"' in page(*paths)
