"""Control laws: one coefficient and one measurement in, the next coefficient out."""

from __future__ import annotations

from collections.abc import Callable

Law = Callable[[float, float, float, float, float], float]


def doubling(zeta: float, entropy: float, target: float, low: float, high: float) -> float:
    """REPO's multiplicative law, once per step (EPRL, as SkyRL implements it).

    Towards more entropy, a positive zeta doubles up to ``high`` and a negative one halves, until below ``low`` it
    changes sign; towards less entropy the mirror image. It steers from both sides.

    Args:
        zeta: coefficient of the step that was measured.
        entropy: measured token-mean entropy, nats.
        target: wanted entropy, nats.
        low: smallest |zeta|.
        high: largest |zeta|.
    """
    if entropy == target:
        return zeta
    if entropy > target:
        return -doubling(-zeta, target, entropy, low, high) if zeta != 0 else -low
    if zeta >= 0:
        return min(high, 2 * zeta) if zeta > 0 else low
    return zeta / 2 if zeta / 2 <= -low else low


def fixed(zeta: float, entropy: float, target: float, low: float, high: float) -> float:
    """No control: the coefficient stays where it is."""
    return zeta


LAWS: dict[str, Law] = {"doubling": doubling, "fixed": fixed}
