"""Whether an actuator does what its law expects of it: more coefficient, more entropy."""

from __future__ import annotations

from typing import Any, Literal

Verdict = Literal["against", "bound"]


class ActuatorWatch:
    """Says when a coefficient was pushed one way for N steps and entropy went the other way, or when it ran out.

    Some actuators have the wrong sign in some states: ADAPO's clip_high lowers entropy where the rewarded token is
    likely already. In N steps with entropy on one side of its target the law pushes one way all the time:

    - ``against``: the distance to the target is larger than it was N steps ago. The actuator is too weak for the
      reward's pull, or its sign is wrong; one run cannot tell which, and its law can help in neither case.
    - ``bound``: the coefficient stood at a bound in all of them, so the law has nothing more to give.

    The state is JSON.

    Args:
        patience: N, in steps.
    """

    def __init__(self, patience: int = 20):
        self.patience = patience
        self.distances: list[float] = []
        self.bound_steps = 0

    def observe(self, entropy: float, target: float, at_bound: bool) -> Verdict | None:
        """One step's measured entropy and target (nats), and whether the coefficient that it used was at a bound."""
        distance = entropy - target
        if self.distances and distance * self.distances[-1] <= 0:
            self.distances, self.bound_steps = [], 0
        self.distances = [*self.distances, distance][-self.patience - 1 :]
        self.bound_steps = min(self.patience, self.bound_steps + 1) if at_bound and distance else 0
        if self.bound_steps >= self.patience:
            return "bound"
        return "against" if self._moved_away() else None

    def _moved_away(self) -> bool:
        return len(self.distances) > self.patience and abs(self.distances[-1]) > abs(self.distances[0])

    def describe(self, verdict: Verdict, coefficient: str, advice: str) -> str:
        """The warning, in words, with the method's own advice."""
        below = self.distances[-1] < 0
        start, end = abs(self.distances[0]), abs(self.distances[-1])
        side, pushed = ("below", "raised") if below else ("above", "lowered")
        if verdict == "bound":
            told = (
                f"has stood at its bound for {self.patience} steps, and entropy is {side} its target by {end:.3g} nats"
            )
        else:
            told = f"was {pushed} for {self.patience} steps, and entropy moved the other way: from {start:.3g} to "
            told += f"{end:.3g} nats {side} its target"
        return f"{coefficient} {told}. {advice}"

    def state_dict(self) -> dict[str, Any]:
        return {"distances": self.distances, "bound_steps": self.bound_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` left off, with the present patience."""
        self.distances = [float(distance) for distance in state["distances"]][-self.patience - 1 :]
        self.bound_steps = min(self.patience, int(state["bound_steps"]))
