"""What a run cost, and how much of it taught nothing: groups whose responses all have the same score."""

from __future__ import annotations

from entropo_plugin.report.clock import clock
from entropo_plugin.report.figure import Panel, Section, Table, curve
from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import count, number
from entropo_plugin.report.sections.metrics import lacking, training_pass
from entropo_plugin.report.series import Series, together

LEAD = (
    "A group whose responses all have the same score gives a group baseline no gradient: its samples were paid for and "
    "taught nothing. All wrong: too hard at this group size. All right: learnt already."
)
NO_GRADIENT = ("entropo/diversity/equal_share", "frac_reward_zero_std", "train/frac_reward_zero_std")
GROUP_SIZE = "entropo/diversity/group_size"
OURS = "entropo/monitor/seconds"
HEADS = ["run", "no gradient", "all right", "all wrong", "tokens", "hours", "monitor's share of the time"]


def cost_section(runs: list[Run]) -> Section:
    """The share of groups without gradient over steps, and a table of means and totals."""
    shares = {place: share[1] for place, run in enumerate(runs) if (share := run.first_of(*NO_GRADIENT))}
    have = [runs[place] for place in shares]
    curves = [curve(runs[place].name, data, place, "noisy") for place, data in shares.items()]
    panels = [Panel("Groups without gradient", "step", "share of prompts", curves, zero=True)] if curves else []
    missing = lacking(runs, have, "share of groups without gradient", "Log it with +entropo=monitor.")
    table = Table("Means over the run and totals", HEADS, [_row(run) for run in runs])
    return Section("cost", "What it cost", LEAD, panels, missing, tables=[table])


def split(run: Run) -> tuple[float | None, float | None, float | None]:
    """Mean shares of groups without gradient, all right and all wrong.

    All wrong is ``1 - pass@n`` at the group size n, all right the rest: exact where scores are 0 or 1.
    """
    equal = run.first_of(*NO_GRADIENT)
    if equal is None:
        return None, None, None
    size, passes = run.metrics.get(GROUP_SIZE), training_pass(run)
    if size is None or not passes or max(passes) < float(size.values.max()):
        return float(equal[1].values.mean()), None, None
    _, (same, solved) = together(equal[1], passes[max(passes)])
    if not len(same):
        return float(equal[1].values.mean()), None, None
    return float(same.mean()), float((same - 1 + solved).clip(0).mean()), float((1 - solved).mean())


def _row(run: Run) -> list[str]:
    shares = ["\u2013" if share is None else f"{share:.0%}" for share in split(run)]
    tokens, hours = (clock(run, unit) for unit in ("tokens", "hours"))
    spent = ["\u2013" if tokens is None else count(int(tokens.values[-1]))]
    spent.append("\u2013" if hours is None else number(float(hours.values[-1])))
    return [run.name, *shares, *spent, _overhead(run, hours)]


def _overhead(run: Run, hours: Series | None) -> str:
    own = run.metrics.get(OURS)
    if own is None or hours is None or not hours.values[-1] > 0:
        return "\u2013"
    return f"{float(own.values.sum()) / 3600 / float(hours.values[-1]):.2%}"
