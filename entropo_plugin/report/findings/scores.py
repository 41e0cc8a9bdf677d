"""What the policy solves, and how runs compare."""

from __future__ import annotations

from entropo_plugin.report.findings.finding import LEAST_POINTS, Finding
from entropo_plugin.report.names import ENTROPY, RIGHT_ANSWERS, RIGHT_RESPONSES, is_pass
from entropo_plugin.report.run import Run
from entropo_plugin.report.series import END_SHARE, Series, noise, summarise, together
from entropo_plugin.report.words import count, number

# A change of pass@k below this is noise, and so is one within twice that of the means that it is taken between.
CHANGED = 0.02
# What of their entropy the right answers may lose before it is said, and fewer of them than this tell nothing.
LOST, LEAST_RIGHT = 0.3, 5


def diversity(run: Run) -> list[Finding]:
    """pass@1 against pass@k, on validation prompts where there are enough validations, else on training prompts.

    That more training prompts get solved is what training does; only validation says that more can be solved.
    """
    if broken_passes(run):
        return []
    sets = {f"validation prompts of {name}": data for name, data in run.validation_passes.items() if _enough(data)}
    sets = sets or {"training prompts": run.training_pass}
    return [finding for where, passes in sets.items() if _enough(passes) for finding in _diversity(run, where, passes)]


def _diversity(run: Run, where: str, passes: dict[int, Series]) -> list[Finding]:
    data = passes[max(passes)]
    one, many = summarise(passes[min(passes)]), summarise(data)
    least = max(CHANGED, 2 * noise(data.values) * (2 / max(1, round(END_SHARE * len(data)))) ** 0.5)
    text = f"{run.name}, {where}: pass@{min(passes)} {number(one.start)} to {number(one.end)}, "
    text += f"pass@{max(passes)} {number(many.start)} to {number(many.end)}."
    if one.end > one.start and many.end < many.start - least:
        return [Finding("bad", "Diversity spent", text + " One try gets better while many tries get worse.", run.name)]
    if many.end > many.start + least and where != "training prompts":
        return [Finding("good", "More gets solved", text, run.name)]
    return []


def broken_passes(run: Run) -> bool:
    """Whether a pass@k is not finite at the end."""
    return not run.sound(*filter(is_pass, run.broken))


def right_answers(run: Run) -> list[Finding]:
    """Entropy of the right answers against that of all tokens: a policy can hold one and lose the other."""
    data, counts, entropy = map(run.metric, (RIGHT_ANSWERS, RIGHT_RESPONSES, ENTROPY))
    if data is None or counts is None or entropy is None or not run.sound(RIGHT_ANSWERS, ENTROPY):
        return []
    steps, (values, numbers, tokens) = together(data, counts, entropy)
    enough = numbers >= LEAST_RIGHT
    if enough.sum() < LEAST_POINTS:
        return []
    own, whole = (summarise(Series(steps[enough], each[enough])) for each in (values, tokens))
    if own.start <= 0 or own.end > (1 - LOST) * own.start or whole.start <= 0:
        return []
    held = whole.end >= 0.9 * whole.start
    text = f"{run.name}: entropy {'held' if held else 'fell'} ({number(whole.start)} to {number(whole.end)} nats per "
    text += f"token), diversity of right answers fell {1 - own.end / own.start:.0%}: their own entropy went from "
    text += f"{number(own.start)} to {number(own.end)}."
    headline = "Entropy held, diversity fell" if held else "Right answers are fewer"
    return [Finding("bad" if held else "note", headline, text, run.name)]


def _enough(passes: dict[int, Series]) -> bool:
    return len(passes) >= 2 and min(map(len, passes.values())) >= LEAST_POINTS


def lengths(runs: list[Run]) -> list[Finding]:
    """Runs that cannot be compared at their ends."""
    last = {run.name: run.last_step for run in runs}
    if len(runs) < 2 or max(last.values()) <= 1.05 * min(last.values()):
        return []
    text = ", ".join(f"{name} {count(step)}" for name, step in last.items())
    advice = f"Compare at step {count(min(last.values()))} or before."
    return [Finding("note", "Different lengths", f"Last steps: {text}. {advice}")]


def reward(runs: list[Run]) -> list[Finding]:
    """Who earns most at the last step that all share."""
    scores = {run.name: data for run in runs if (data := run.sound_score) and len(data) >= LEAST_POINTS}
    if len(scores) < 2:
        return []
    until = min(data.last_step for data in scores.values())
    cut = {name: data.where(data.steps <= until) for name, data in scores.items()}
    ends = {name: summarise(data).end for name, data in cut.items() if data}
    ranked = sorted(ends, key=lambda name: -ends[name])
    text = ", ".join(f"{name} {number(ends[name])}" for name in ranked)
    caution = "One run each: a repeat with another seed may order them anew."
    return [Finding("fact", "Reward", f"At step {count(until)}: {text}. {caution}")]
