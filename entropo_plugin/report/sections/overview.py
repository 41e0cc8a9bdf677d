"""The story in three pictures: entropy against its target, held-out pass@k, reward."""

from __future__ import annotations

from collections import Counter

from entropo_plugin.report.figure import Curve, Panel, Section, curve
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.metrics import (
    ENTROPY,
    SCORES,
    TARGET,
    TRL_ENTROPY,
    VERL_ENTROPY,
    entropy_of,
    lacking,
    score_of,
    training_pass,
    validation_of,
    validation_passes,
)

REMEDY = "Log it with +entropo=monitor, or with verl's actor_rollout_ref.actor.calculate_entropy=true."
HOSTS = {
    VERL_ENTROPY: f"verl's {VERL_ENTROPY}, whose mean follows loss_agg_mode, not always tokens.",
    TRL_ENTROPY: f"the trainer's own {TRL_ENTROPY}, a mean over micro-batches, of the policy while it is updated.",
}


def overview_section(runs: list[Run]) -> Section:
    """The three panels side by side."""
    entropy, score = ([run for run in runs if of(run) is not None] for of in (entropy_of, score_of))
    panels = [_entropy(runs)] if entropy else []
    panels += [panel for panel in (_solved(runs), _reward(runs)) if panel.curves]
    missing = lacking(runs, entropy, f"{ENTROPY} and no {VERL_ENTROPY}", REMEDY)
    missing += lacking(runs, score, " and no ".join(SCORES), "verl logs it at every training step.")
    return Section("overview", "Entropy, answers and reward", "", panels, missing, _substitutes(entropy))


def _entropy(runs: list[Run]) -> Panel:
    curves: list[Curve] = []
    for place, run in enumerate(runs):
        data, target = entropy_of(run), run.first_of(TARGET)
        if data is not None:
            curves.append(curve(run.name, data, place, "noisy"))
        if target:
            curves.append(curve(f"{run.name}: target", target[1], place, "dashed"))
    return Panel("Entropy and its target (dashed)", "step", "nats per token", curves, zero=True)


def _solved(runs: list[Run]) -> Panel:
    """pass@k on one validation set, which the title names; else validation scores; else pass@k in training."""
    for of, what in ((validation_passes, "pass@k"), (validation_of, "score")):
        sets = Counter(name for run in runs for name in of(run))
        if sets:
            name, more = max(sets, key=lambda name: sets[name]), len(sets) - 1
            curves = [each for place, run in enumerate(runs) for each in _of_set(run, place, of(run).get(name))]
            title = f"Held-out {what}: {name}" + (f" (and {more} more below)" if more else "")
            return Panel(title, "step", f"{what}, dashed: k = 1" if of is validation_passes else what, curves)
    curves = [each for place, run in enumerate(runs) for each in _of_set(run, place, training_pass(run))]
    return Panel("pass@k on training prompts", "step", "pass@k", curves)


def _of_set(run: Run, place: int, data: object) -> list[Curve]:
    """The largest k, and k = 1 dashed; or the score."""
    if not isinstance(data, dict):
        return [] if data is None else [curve(run.name, data, place, "line-dots")]  # type: ignore[arg-type]
    shown = dict.fromkeys(([max(data)] if data else []) + ([1] if 1 in data else []))
    return [curve(f"{run.name}: pass@{k}", data[k], place, "line-dots" if k == max(data) else "dashed") for k in shown]


def _reward(runs: list[Run]) -> Panel:
    curves = [curve(run.name, data, place, "noisy") for place, run in enumerate(runs) if (data := score_of(run))]
    return Panel("Training reward", "step", "mean score of a response", curves, zero=True)


def _substitutes(have: list[Run]) -> list[str]:
    """Where the entropy is not ours, what it is a mean of."""
    sentences = []
    for metric, words in HOSTS.items():
        names = [run.name for run in have if run.first_of(ENTROPY, *HOSTS)[0] == metric]  # type: ignore[index]
        if names:
            sentences.append(f"{', '.join(names)}: entropy drawn from {words}")
    return sentences
