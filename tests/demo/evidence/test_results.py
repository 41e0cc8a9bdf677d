"""Intervals, paired differences and the frontier, from literal rows."""

import math

import pytest

from entropo_plugin.demo.evidence.results import Spread, differences, frontier, results, spread, table
from entropo_plugin.demo.evidence.rows import COLUMNS


def row(arm, seed, reward, distinct, **more):
    values = dict.fromkeys(COLUMNS, "0") | {"task": "sums", "arm": arm, "rate": "1", "seed": str(seed), "after": ""}
    return values | {"error": "", "trained_pass1": str(reward), "trained_distinct": str(distinct)} | more


def test_spread():
    # standard deviation 1, t = 4.302653 with two degrees of freedom
    assert spread([1.0, 2.0, 3.0]) == Spread(2.0, pytest.approx(4.302653 / math.sqrt(3), abs=1e-5), 3)
    assert spread([1.0, math.nan]).seeds == 1
    assert math.isnan(spread([1.0]).half)


def test_differences_are_paired_by_seed():
    rows = [row("grpo", seed, 0.5 + seed, 1) for seed in range(3)] + [row("rloo", s, 0.75 + s, 4) for s in (0, 2)]
    found = results(rows, "sums")
    assert [each.arm for each in found] == ["grpo", "rloo"]
    assert found[1].beyond(found[0], "trained_pass1") == Spread(0.25, 0.0, 2)
    assert "| rloo | +0.25 ± 0.00 | +3.00 ± 0.00 |" in differences(found)


def test_frontier():
    points = {"grpo": (0.9, 1.0), "rloo": (0.8, 5.0), "adapo": (0.7, 4.0), "nsr": (0.2, 9.0)}
    found = results([row(arm, 0, *each) for arm, each in points.items()], "sums")
    assert [each.arm for each in frontier(found, "trained_distinct", "trained_pass1")] == ["grpo", "rloo", "nsr"]
    assert "| **rloo** | 0.80 | 5.0 |" in table(found)
    assert "| adapo | 0.70 | 4.0 |" in table(found)
    assert results([row("adapo", 0, 0.01, 0, dead="1", rate="3")], "sums")[0].seeds == "1, 1 dead"
    assert results([row("adapo", 0, 0.01, 0, dead="1", rate="3")], "sums")[0].name == "adapo, rate x3"


def test_a_failed_run_counts_nowhere():
    assert results([row("grpo", 0, 1, 1, error="RuntimeError: x")], "sums") == []
