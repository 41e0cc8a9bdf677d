"""What the page's charts are drawn from: few numbers, colours that all can tell apart, seeds that belong together."""

import itertools
import json
import re
from importlib.resources import files

import numpy as np
import pytest

from entropo_plugin.report.configuration import Setup
from entropo_plugin.report.figure import Band, Curve, Panel, Section
from entropo_plugin.report.payload import looks, payload
from entropo_plugin.report.runs import Run


def named(*names, **configs):
    return [Run(name, {}, setup=Setup(configs.get(name, {}))) for name in names]


def drawn(*panels):
    return json.loads(payload(named("a"), [Section("s", "S", panels=list(panels))]))["charts"]


def test_a_long_curve_keeps_its_extremes_and_gets_means_for_smoothing():
    y = [0.0] * 100_000
    y[54_321] = 7.0
    (chart,) = drawn(Panel("t", "step", "y", [Curve("a", list(range(100_000)), y, 0)])).values()
    (curve,) = chart["curves"]
    assert len(curve["points"][0]) <= 800 and max(curve["points"][1]) == 7 and 54321 in curve["points"][0]
    assert curve["means"][1][217] == pytest.approx(7 / 250) and len(curve["means"][0]) == 400


def test_a_short_curve_and_its_band_are_given_as_logged():
    band = Band([1.0, 2.0], [0.0, 0.125], [1.0, 1.5], 0)
    (chart,) = drawn(Panel("t", "step", "y", [Curve("a", [1.0, 2.0], [1 / 3, 2.0], 0, "noisy")], [band])).values()
    assert chart["curves"] == [{"run": 0, "label": "a", "style": "noisy", "points": [[1, 2], [0.333333, 2]]}]
    assert chart["bands"] == [{"run": 0, "x": [1, 2], "low": [0, 0.125], "high": [1, 1.5]}]


def test_a_page_holds_so_many_points_and_no_more():
    panels = [Panel("t", "step", "y", [Curve("a", list(range(5000)), [0.5] * 5000, 0)]) for _ in range(200)]
    assert len(payload(named("a"), [Section("s", "S", panels=panels)])) < 1_000_000


def test_numbers_cannot_end_the_script():
    assert "<" not in payload(named("</script>"), [])
    assert json.loads(payload(named("</script>\u202e"), []))["runs"][0]["name"] == "</script>\ufffd"


def test_runs_have_a_colour_each_and_beyond_eight_a_dash():
    found = looks(named(*"abcdefghijkl"))
    assert [(look["colour"], look["dash"]) for look in found] == [(i % 8, i // 8) for i in range(12)]
    assert {look["seeds"] for look in found} == {1}


def test_seeds_of_one_configuration_share_a_colour():
    found = looks(named("grpo-seed2", "grpo-seed10", "ours/seed_1", "ours/seed_2", "other"))
    assert [(look["groupName"], look["seeds"]) for look in found] == [
        *[("grpo", 2)] * 2,
        *[("ours", 2)] * 2,
        ("other", 1),
    ]
    assert [(look["colour"], look["dash"]) for look in found] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


def test_seeds_are_known_by_their_configuration_too():
    first, second = {"lr": "1e-6", "data.seed": "1"}, {"lr": "1e-6", "data.seed": "2"}
    assert looks(named("a", "b", a=first, b=second))[1]["group"] == 0
    assert looks(named("a", "b", a=first, b=second | {"lr": "2e-6"}))[1]["group"] == 1
    assert looks(named("a", "b"))[1]["group"] == 1
    apart = {"a-seed1": first, "a-seed2": second | {"lr": "2e-6"}}
    assert looks(named(*apart, **apart))[1]["group"] == 1


# Machado, Oliveira and Fernandes 2009, severity 1
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour):
    srgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 1e-4, 1) / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(first, second):
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_are_told_apart_with_deuteranopia_and_on_their_page(theme):
    style = files("entropo_plugin.report").joinpath("assets/style.css").read_text()
    colours = re.findall(r"--c\d: (#\w{6})", style)[8 * theme : 8 * theme + 8]
    card = ("#ffffff", "#161a20")[theme]
    assert len(colours) == 8 and ("--card: " + card.replace("#ffffff", "#fff")) in style
    for seen in (np.eye(3), DEUTERANOPIA):
        places = [lab(seen @ linear(colour)) for colour in colours]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) > 15
    assert min(contrast(colour, card) for colour in colours) >= 3
