"""Entropy against its target, and what the controller did about it."""

from __future__ import annotations

from entropo_plugin.report.downsample import curve, noisy
from entropo_plugin.report.figure import Curve, Panel, Section
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.coefficients import coefficient_panels
from entropo_plugin.report.sections.metrics import ENTROPY, TARGET, TRL_ENTROPY, VERL_ENTROPY, entropy_of, lacking

LEAD = (
    "Entropy is how much choice the policy keeps at each token. Where it reaches 0 exploration is over; where it grows "
    "without end the policy turns to noise. Dashed: the target that a controller steers to."
)
REMEDY = "Log it with +entropo=monitor, or with verl's actor_rollout_ref.actor.calculate_entropy=true."


def entropy_section(runs: list[Run]) -> Section:
    """Entropy and target of all runs, and one panel for each coefficient that is moved."""
    have = [run for run in runs if entropy_of(run) is not None]
    panels = [_entropy_panel(runs)] if have else []
    panels += coefficient_panels(runs)
    missing = lacking(runs, have, f"{ENTROPY} and no {VERL_ENTROPY}", REMEDY)
    return Section("entropy", "Entropy and its target", LEAD, panels, missing, _substitutes(have))


def _entropy_panel(runs: list[Run]) -> Panel:
    curves: list[Curve] = []
    for colour, run in enumerate(runs):
        data, target = entropy_of(run), run.first_of(TARGET)
        if data is not None:
            curves += noisy(run.name, data, colour)
        if target:
            curves.append(curve(f"{run.name}: target", target[1], colour, "dashed"))
    return Panel("Policy entropy", "step", "entropy (nats per token)", curves, zero=True)


def _substitutes(have: list[Run]) -> list[str]:
    """Where the curve is not ours, what it is a mean of."""
    sentences = []
    for metric, words in HOSTS.items():
        names = [run.name for run in have if run.first_of(ENTROPY, *HOSTS)[0] == metric]  # type: ignore[index]
        if names:
            sentences.append(f"{', '.join(names)}: drawn from {words}")
    return sentences


HOSTS = {
    VERL_ENTROPY: f"verl's {VERL_ENTROPY}, whose mean follows loss_agg_mode, not always tokens.",
    TRL_ENTROPY: f"the trainer's own {TRL_ENTROPY}, a mean over micro-batches, of the policy while it is updated.",
}
