import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from entropo_plugin.report.series import area, series, smooth, summarise, thin, together


def test_series_sorts_and_keeps_the_last_value_of_a_step():
    data = series([3, 1, 2, 1], [30.0, 10.0, float("nan"), 11.0])
    assert data.steps.tolist() == [1, 3]
    assert data.values.tolist() == [11.0, 30.0]


def test_summary_of_known_numbers():
    got = summarise(series(range(1, 21), range(20)))
    assert (got.start, got.end, got.low, got.high) == (0.5, 18.5, 0.0, 19.0)
    assert got.area == 180.5


def test_area_counts_gaps_between_steps():
    assert area(series([0, 2, 3], [1.0, 3.0, 5.0])) == 8.0


def test_thinning_keeps_both_ends_and_the_extremes():
    values = np.zeros(100_000)
    values[12_345], values[77_777] = 9.0, -9.0
    few = thin(series(range(100_000), values), 800)
    assert len(few) <= 800
    assert (few.steps[0], few.steps[-1]) == (0, 99_999)
    assert {12_345, 77_777} <= set(few.steps.tolist())


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(4, 50))
def test_thinning_never_loses_an_extreme(values, most):
    data = series(range(len(values)), values)
    few = thin(data, most)
    assert len(few) <= max(most, 4)
    assert (few.values.min(), few.values.max()) == (data.values.min(), data.values.max())


def test_smoothing_is_a_running_mean_and_leaves_short_series_alone():
    assert smooth(series(range(49), range(49))) is None
    flat = smooth(series(range(100), [0.0, 1.0] * 50))
    assert flat.values[50] == 0.4  # two steps to each side: 0 1 0 1 0
    assert flat.values[51] == 0.6


def test_together_keeps_shared_steps():
    steps, (a, b) = together(series([1, 2, 4], [1, 2, 4]), series([2, 3, 4], [20, 30, 40]))
    assert (steps.tolist(), a.tolist(), b.tolist()) == ([2, 4], [2, 4], [20, 40])
