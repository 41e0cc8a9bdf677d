"""Reward against different right answers: every arm a point with its spread, and the frontier drawn."""

from __future__ import annotations

from pathlib import Path

from entropo_plugin.demo.evidence.arms import BASELINE, EVERY, OURS, PUBLISHED
from entropo_plugin.demo.evidence.results import Result, frontier

MARKS = {BASELINE: ("o", "#5c6470"), PUBLISHED: ("s", "#d4570a"), OURS: ("D", "#1f62b8")}
PANELS = {"trained": "prompts that were trained", "held_out": "prompts of the same kind, never trained"}


def draw(found: list[Result], title: str, path: Path) -> Path:
    """One panel for trained and one for held-out prompts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    picture, axes = pyplot.subplots(1, 2, figsize=(15, 7), layout="constrained")
    for axis, (kind, words) in zip(axes, PANELS.items(), strict=True):
        _panel(axis, found, f"{kind}_distinct", f"{kind}_pass1")
        axis.set(xlabel="different right answers among 64 samples", ylabel="reward (pass@1)", title=words)
    axes[0].legend(loc="lower right", fontsize=9)
    picture.suptitle(f"{title}: means of {min(len(each.rows) for each in found)} seeds or more, 95 % intervals")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=110)
    pyplot.close(picture)
    return path


def _panel(axis: object, found: list[Result], x: str, y: str) -> None:
    for family, (mark, colour) in MARKS.items():
        of_family = [each for each in found if each.arm in EVERY and EVERY[each.arm].family == family]
        for number, each in enumerate(of_family):
            right, up = each.of(x), each.of(y)
            label = family if not number else None
            axis.errorbar(  # type: ignore[attr-defined]
                right.mean, up.mean, up.half, right.half, mark, color=colour, ms=6, lw=0.7, alpha=0.85, label=label
            )
            name = each.arm if float(each.rate) == 1 else f"{each.arm}, rate x{float(each.rate):g}"
            axis.annotate(  # type: ignore[attr-defined]
                name, (right.mean, up.mean), (4, 4), textcoords="offset points", fontsize=7.5, color=colour
            )
    line = [(each.of(x).mean, each.of(y).mean) for each in frontier(found, x, y)]
    axis.plot(*zip(*line, strict=True), color="#0e8f76", lw=1.5, ls="--", zorder=0, label="frontier")  # type: ignore[attr-defined]
