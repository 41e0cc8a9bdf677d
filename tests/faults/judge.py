"""Whether a killed and resumed training went on exactly: its logs and its state against the law, replayed."""

from __future__ import annotations

from typing import Any

from entropo_plugin.control import doubling

INITIAL, LOW, HIGH = 1e-3, 1e-4, 0.05
ENTROPY = "entropo/entropy/token_mean"

# What a V1 step of verl's does, in this order; the names are those of its timing_s/ metrics.
ORDER = ("gen", "reward", "old_log_prob", "ref", "adv", "update_actor", "save_checkpoint", "update_weights")
MOMENTS = {"rollout": "gen", "update": "update_actor", "save": "save_checkpoint"}


def window(timing: dict[str, float], moment: str) -> tuple[float, float]:
    """Begin and end of a part of a step, in seconds after the step began, from an earlier step's timings."""
    place = ORDER.index(MOMENTS[moment])
    begin = sum(timing.get(name, 0.0) for name in ORDER[:place])
    return begin, begin + timing.get(MOMENTS[moment], 0.0)


def entropies(first: list[dict], second: list[dict], state: dict[str, Any]) -> dict[int, float]:
    """The measured entropy of every step that counts: the killed run's up to its state, then the resumed one's.

    A kill between the save and the log leaves the last saved step's entropy in the state only.
    """
    found = {line["step"]: line["data"][ENTROPY] for line in first if line["step"] <= state["step"]}
    found.setdefault(state["step"], state["changes"]["last"]["entropy"])
    return found | {line["step"]: line["data"][ENTROPY] for line in second}


def faults(first: list[dict], second: list[dict], state: dict[str, Any], steps: int) -> list[str]:
    """What is wrong with a resume, in words; empty when the trajectory is that of an uninterrupted run.

    Args:
        first, second: logged steps of the killed and of the resumed run.
        state: what the killed run's checkpoint held.
        steps: the last step of the resumed run.
    """
    saved, zeta = state["step"], state["coefficients"]["zeta"]
    wanted = list(range(saved + 1, steps + 1))
    found = [] if [line["step"] for line in second] == wanted else ["the resumed steps are not each there once"]
    if zeta["steps"] != saved:
        found.append(f"the controller counted {zeta['steps']} steps, the checkpoint is of step {saved}")
    measured = entropies(first, second, state)
    if sorted(measured) != list(range(1, steps + 1)):
        return [*found, f"entropies are known of the steps {sorted(measured)} only"]
    logged = {line["step"]: line["data"] for line in [*first, *second] if line["step"] <= saved or line in second}
    coefficient, target = INITIAL, measured[1]
    for step in range(1, steps + 1):
        following = doubling(coefficient, measured[step], target, LOW, HIGH)
        expected = {"entropo/zeta": coefficient, "entropo/target": target, "entropo/zeta_next": following}
        found += [
            f"step {step}: {name} is off"
            for name in expected
            if logged.get(step, expected).get(name, expected[name]) != expected[name]
        ]
        if step == saved and zeta["value"] != following:
            found.append(f"the state of step {saved} holds {zeta['value']}, not {following}")
        coefficient = following
    return found


def counted(earlier: list[dict], attempt: list[dict], state: dict[str, Any]) -> list[dict]:
    """What counts of all runs up to a checkpoint: its steps; of one that was saved and not logged, the entropy.

    Args:
        earlier: what counted before this run.
        attempt: logged steps of the run that was killed.
        state: what its last checkpoint held.
    """
    lines = [line for line in [*earlier, *attempt] if line["step"] <= state["step"]]
    if state["step"] not in {line["step"] for line in lines}:
        lines.append({"step": state["step"], "data": {ENTROPY: state["changes"]["last"]["entropy"]}})
    return lines


def table(rows: list[dict[str, Any]], heads: tuple[str, ...]) -> str:
    """A markdown table."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join(lines + [f"| {' | '.join(str(row.get(head, '')) for head in heads)} |" for row in rows])
