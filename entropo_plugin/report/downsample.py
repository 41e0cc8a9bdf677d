"""From series to curves: thinned to what a screen can show, smoothed where they are noisy."""

from __future__ import annotations

from entropo_plugin.report.figure import Curve, floats
from entropo_plugin.report.series import Series, smooth, thin

MOST = 800


def curve(label: str, data: Series, colour: int, style: str = "solid") -> Curve:
    """A series as one curve."""
    shown = thin(data, MOST)
    return Curve(label, floats(shown.steps), floats(shown.values), colour, style)


def noisy(label: str, data: Series, colour: int) -> list[Curve]:
    """A long series as its running mean over a faint trace of what was logged; a short one as it is."""
    mean = smooth(data)
    if mean is None:
        return [curve(label, data, colour)]
    return [curve("", data, colour, "faint"), curve(label, mean, colour)]
