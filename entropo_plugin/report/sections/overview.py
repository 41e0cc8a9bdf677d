"""The story in three pictures: entropy against its target, held-out pass@k, reward."""

from __future__ import annotations

from collections import Counter

from entropo_plugin.report.figure import Curve, Panel, Section, curve, lacking
from entropo_plugin.report.names import ENTROPY, SCORES, TARGET, TRL_ENTROPY, VERL_ENTROPY
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import Series

REMEDY = "Log it with +entropo=monitor, or with verl's actor_rollout_ref.actor.calculate_entropy=true."
HOSTS = {
    VERL_ENTROPY: f"verl's {VERL_ENTROPY}, whose mean follows loss_agg_mode, not always tokens.",
    TRL_ENTROPY: f"the trainer's own {TRL_ENTROPY}, a mean over micro-batches, of the policy while it is updated.",
}


def overview_section(runs: list[Run]) -> Section:
    """The three panels side by side."""
    entropy = [each for run in runs for each in _entropy(run)]
    score = [curve(run, data, "noisy") for run in runs if (data := run.score)]
    panels = [
        Panel("Entropy and its target (dashed)", "step", "nats per token", entropy, zero=True),
        _solved(runs),
        Panel("Training reward", "step", "mean score of a response", score, zero=True),
    ]
    missing = lacking(runs, [run for run in runs if run.entropy], f"{ENTROPY} and no {VERL_ENTROPY}", REMEDY)
    often = "verl logs it at every training step."
    missing += lacking(runs, [run for run in runs if run.score], " and no ".join(SCORES), often)
    return Section("overview", "Entropy, answers and reward", "", panels, missing, _substitutes(runs))


def _entropy(run: Run) -> list[Curve]:
    data, target = run.entropy, run.metric(TARGET)
    curves = [curve(run, data, "noisy")] if data else []
    return [*curves, curve(run, target, "dashed", "target")] if target else curves


def _solved(runs: list[Run]) -> Panel:
    """pass@k on one validation set, which the title names; else validation scores; else pass@k in training."""
    scores = [{name: {0: data} for name, data in run.validation.items()} for run in runs]
    for what, found in (("pass@k", [run.validation_passes for run in runs]), ("score", scores)):
        sets = Counter(name for each in found for name in each)
        if sets:
            name, more = max(sets, key=lambda name: sets[name]), len(sets) - 1
            title = f"Held-out {what}: {name}" + (f" (and {more} more below)" if more else "")
            label = f"{what}, dashed: k = 1" if what == "pass@k" else what
            curves = [each for run, data in zip(runs, found, strict=True) for each in _ends(run, data.get(name, {}))]
            return Panel(title, "step", label, curves)
    curves = [each for run in runs for each in _ends(run, run.training_pass)]
    return Panel("pass@k on training prompts", "step", "pass@k", curves)


def _ends(run: Run, passes: dict[int, Series]) -> list[Curve]:
    """The largest k, and k = 1 dashed; a score, which has no k."""
    shown = {max(passes): "line-dots"} if passes else {}
    shown |= {1: "dashed"} if 1 in passes and max(passes) > 1 else {}
    return [curve(run, passes[k], style, f"pass@{k}" if k else "") for k, style in shown.items()]


def _substitutes(runs: list[Run]) -> list[str]:
    """Where the entropy is not ours, what it is a mean of."""
    sentences = []
    for metric, words in HOSTS.items():
        names = [run.name for run in runs if run.entropy is not None and run.entropy is run.metrics.get(metric)]
        if names:
            sentences.append(f"{', '.join(names)}: entropy drawn from {words}")
    return sentences
