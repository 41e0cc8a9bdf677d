"""Entropy and reward of several runs side by side, as one PNG."""

from __future__ import annotations

from pathlib import Path

Curves = dict[str, dict[str, list[float]]]


def draw_curves(runs: Curves, out: Path, title: str) -> Path:
    """Draw ``{run: {"entropy": [...], "reward": [...], "target": [...]}}`` over steps.

    Raises:
        ImportError: matplotlib, the extra ``report``, is missing.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for (name, curves), colour in zip(runs.items(), ("#8a8f98", "#c2410c", "#1d4ed8", "#15803d"), strict=False):
        steps = range(1, len(curves["entropy"]) + 1)
        left.plot(steps, curves["entropy"], color=colour, label=name, lw=2)
        if curves.get("target"):
            left.plot(steps[-len(curves["target"]) :], curves["target"], color=colour, ls=":", label=f"{name}: target")
        right.plot(range(1, len(curves["reward"]) + 1), curves["reward"], color=colour, label=name, lw=2)
    for axes, label in ((left, "policy entropy (nats per token)"), (right, "training reward")):
        axes.set(xlabel="step", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(out, dpi=140)
    pyplot.close(figure)
    return out
