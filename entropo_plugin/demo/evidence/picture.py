"""Reward against different right answers: every arm a numbered point with its spread, and the frontier drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entropo_plugin.demo.evidence.arms import BASELINE, EVERY, OURS, PUBLISHED
from entropo_plugin.demo.evidence.results import Result, frontier

MARKS = {BASELINE: ("o", "#5c6470"), PUBLISHED: ("s", "#d4570a"), OURS: ("D", "#1f62b8")}
PANELS = {"trained": "prompts that were trained", "held_out": "prompts of the same kind, never trained"}
NAMES = {BASELINE: "what one would take without us", PUBLISHED: "published methods, in our form", OURS: "ours"}
FRONTIER = "#0e8f76"


def draw(found: list[Result], title: str, path: Path) -> Path:
    """One panel for trained and one for held-out prompts, and the names of the numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    numbered = dict(enumerate(_by_family(found), 1))
    picture, axes = pyplot.subplots(1, 3, figsize=(15, 6.4), layout="constrained", width_ratios=(1, 1, 0.42))
    for axis, (kind, words) in zip(axes, PANELS.items(), strict=False):
        _panel(axis, numbered, f"{kind}_distinct", f"{kind}_pass1")
        axis.set(xlabel="different right answers among 64 samples", ylabel="reward (pass@1)", title=words)
    _legend(axes[2], numbered)
    seeds = sorted({len(each.rows) for each in found})
    many = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    picture.suptitle(f"{title}: means of {many}, 95 % intervals; dashed: no other method is better in both")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=110)
    pyplot.close(picture)
    return path


def _by_family(found: list[Result]) -> list[Result]:
    return [each for family in MARKS for each in found if _family(each) == family]


def _family(each: Result) -> str:
    return EVERY[each.arm].family if each.arm in EVERY else OURS


def _panel(axis: Any, numbered: dict[int, Result], x: str, y: str) -> None:
    line = [(each.of(x).mean, each.of(y).mean) for each in frontier([*numbered.values()], x, y)]
    axis.plot(*zip(*line, strict=True), color=FRONTIER, lw=1.5, ls="--", zorder=1)
    for number, each in numbered.items():
        right, up, (mark, colour) = each.of(x), each.of(y), MARKS[_family(each)]
        axis.errorbar(right.mean, up.mean, up.half, right.half, color=colour, lw=0.7, alpha=0.25, zorder=0)
        axis.plot(right.mean, up.mean, mark, color=colour, ms=11, alpha=0.85, zorder=2)
        axis.annotate(str(number), (right.mean, up.mean), color="white", fontsize=6.5, ha="center", va="center")
    axis.set_ylim(0, 1.02)
    axis.set_xlim(left=0)


def _legend(axis: Any, numbered: dict[int, Result]) -> None:
    axis.axis("off")
    lines: list[tuple[str, str, str]] = []
    for family, (_, colour) in MARKS.items():
        members = [(number, each) for number, each in numbered.items() if _family(each) == family]
        if members:
            lines.append((NAMES[family], colour, "bold"))
            lines += [(f"{n}  {each.name}", colour, "normal") for n, each in members]
    for place, (text, colour, weight) in enumerate(lines):
        axis.text(0, 1 - place / max(40, len(lines)), text, color=colour, weight=weight, fontsize=8, va="top")
