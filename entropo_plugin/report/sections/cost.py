"""What a run cost, and how much of it taught nothing: groups whose responses all have the same score."""

from __future__ import annotations

from entropo_plugin.report.figure import Panel, Section, Table, curve, lacking
from entropo_plugin.report.names import NO_GRADIENT
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import together
from entropo_plugin.report.words import NONE, count, number

LEAD = (
    "A group whose responses all have the same score gives a group baseline no gradient: its samples were paid for and "
    "taught nothing. All wrong: too hard at this group size. All right: learnt already."
)
GROUP_SIZE = "entropo/diversity/group_size"
OURS = "entropo/monitor/seconds"
HEADS = ["run", "no gradient", "all right", "all wrong", "tokens", "hours", "monitor's share of the time"]


def cost_section(runs: list[Run]) -> Section:
    """The share of groups without gradient over steps, and a table of means and totals."""
    curves = [curve(run, data, "noisy") for run in runs if (data := run.metric(*NO_GRADIENT))]
    panel = Panel("Groups without gradient", "step", "share of prompts", curves, zero=True)
    have = [run for run in runs if run.metric(*NO_GRADIENT)]
    missing = lacking(runs, have, "share of groups without gradient", "Log it with +entropo=monitor.")
    table = Table("Means over the run and totals", HEADS, [_row(run) for run in runs])
    return Section("cost", "What it cost", LEAD, [panel], missing, tables=[table])


def split(run: Run) -> tuple[float | None, float | None, float | None]:
    """Mean shares of groups without gradient, all right and all wrong.

    All wrong is ``1 - pass@n`` at the group size n, all right the rest: exact where scores are 0 or 1.
    """
    equal, size, passes = run.metric(*NO_GRADIENT), run.metric(GROUP_SIZE), run.training_pass
    if equal is None:
        return None, None, None
    if size and passes and max(passes) >= float(size.values.max()):
        steps, (same, solved) = together(equal, passes[max(passes)])
        if len(steps):
            return float(same.mean()), float((same - 1 + solved).clip(0).mean()), float((1 - solved).mean())
    return float(equal.values.mean()), None, None


def _row(run: Run) -> list[str]:
    shares = [NONE if share is None else f"{share:.0%}" for share in split(run)]
    tokens, hours, own = run.clock("tokens"), run.clock("hours"), run.metric(OURS)
    spent = float(hours.values[-1]) if hours else None
    overhead = f"{float(own.values.sum()) / 3600 / spent:.2%}" if own and spent else NONE
    return [run.name, *shares, count(int(tokens.values[-1])) if tokens else NONE, number(spent), overhead]
