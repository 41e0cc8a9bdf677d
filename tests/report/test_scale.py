import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropo_plugin.report.scale import Scale, count, number, padded, power_ticks, tick_text, ticks, whole_ticks


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1.5, "1.5"), (-0.01234, "\u22120.0123"), (12500, "12\u202f500"), (3.14159, "3.14"), (2e-6, "2.00e-06")],
)
def test_numbers_read_well(value, shown):
    assert number(value) == shown


def test_ticks_are_round():
    assert ticks(0, 1.6, 5) == [0, 0.5, 1, 1.5]
    assert ticks(-0.05, 0.05, 5) == [-0.05, -0.025, 0, 0.025, 0.05]
    assert whole_ticks(1, 4) == [1, 2, 3, 4]
    assert power_ticks(1, 16) == [1, 2, 4, 8, 16]
    assert [tick_text(tick, 0.05) for tick in (0.95, 1.0, 1.05)] == ["0.95", "1", "1.05"]
    assert tick_text(20_000, 20_000) == "20k"
    assert count(100_000) == "100\u202f000"


@given(st.floats(-1e29, 1e29), st.floats(-1e29, 1e29))
def test_axes_always_have_a_length_and_few_ticks(a, b):
    low, high = padded(min(a, b), max(a, b))
    assert low < high
    assert len(ticks(low, high)) < 15
    assert math.isfinite(Scale(low, high, 0, 100)((low + high) / 2))


def test_scale_in_logarithms():
    assert Scale(1, 16, 0, 100, log=True)(4) == 50
