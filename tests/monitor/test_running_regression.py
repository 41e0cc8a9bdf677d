import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropo_plugin.monitor.running_regression import RunningLine

NUMBERS = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def through(points) -> RunningLine:
    line = RunningLine()
    for x, y in points:
        line.add(x, y)
    return line


def test_worked_by_hand():
    line = through([(1, 5), (2, 3), (3, 4), (4, 1), (5, 2)])
    assert (line.n, line.mean_x, line.mean_y) == (5, 3, 3)
    assert (line.xx, line.yy, line.xy) == pytest.approx((10, 10, -8))
    assert line.slope == pytest.approx(-0.8)
    assert line.correlation == pytest.approx(-0.8)
    assert line.spread == pytest.approx(2**0.5)


@pytest.mark.parametrize("points", [[], [(1, 2)], [(0.1, 1)] * 7, [(0.1, 1), (0.1, 2)]])
def test_without_spread_there_is_no_slope(points):
    assert through(points).slope is None
    assert through(points).correlation is None


def test_a_constant_y_has_a_slope_but_no_correlation():
    line = through([(1, 0.3), (2, 0.3), (3, 0.3)])
    assert line.slope == 0.0
    assert line.correlation is None


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=20))
def test_against_numpy(points):
    x, y = np.array(points).T
    line = through(points)
    if x.std() < 1e-2 or y.std() < 1e-2:
        return
    assert line.slope == pytest.approx(np.polyfit(x - x.mean(), y, 1)[0], rel=1e-6, abs=1e-9)
    assert line.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-6, abs=1e-9)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=10), st.integers(0, 10))
def test_state_survives_json_bit_for_bit(points, cut):
    resumed = through(points[:cut])
    state = json.loads(json.dumps(resumed.state_dict()))
    resumed = RunningLine()
    resumed.load_state_dict(state)
    for x, y in points[cut:]:
        resumed.add(x, y)
    assert resumed.state_dict() == through(points).state_dict()


@pytest.mark.parametrize("point", [(1.0, float("nan")), (float("nan"), 1.0), (1e26, 1.0), (1.0, -float("inf"))])
def test_a_point_that_is_no_number_is_passed_over(point):
    assert through([(1.0, 2.0), point]).n == 1
