"""The tokens that cost a run most entropy, as a heat map in the text of their responses."""

from __future__ import annotations

from operator import attrgetter

from entropo_plugin.report.figure import Section, lacking
from entropo_plugin.report.run import Run
from entropo_plugin.report.search import grouped
from entropo_plugin.report.tokens import CostlyToken

LEAD = (
    "The sampled tokens whose reinforcement was predicted to take most entropy away, costliest responses first; the "
    "darker, the more. Costs in nats per unit of learning rate. A handful of tokens usually carries most of the loss."
)
REMEDY = "Train with entropo.monitor.tokens=20, or so many as you want a step."
AROUND = 160
EXCERPTS = 8
VISIBLE = {"\n": "\u21b5", "\t": "\u21e5", " ": "\u2423", "\r": "\u240d"}

Excerpt = list[CostlyToken | str]


def token_section(runs: list[Run]) -> Section:
    """Excerpts of every run that wrote its tokens down."""
    have = [run for run in runs if run.tokens]
    missing = lacking(runs, have, "side file tokens.jsonl", REMEDY)
    found = {run.place: excerpts(run.tokens)[:EXCERPTS] for run in have}
    return Section("tokens", "The most expensive tokens", LEAD, missing=missing, excerpts=found)


def excerpts(tokens: list[CostlyToken]) -> list[Excerpt]:
    """One text for each response, with all of its tokens that can be placed in it; the costliest token's first."""
    responses = grouped(tokens, attrgetter("step", "uid", "row")).values()
    return [_text(sorted(same, key=attrgetter("position"))) for same in responses]


def _text(tokens: list[CostlyToken]) -> Excerpt:
    first, *others = tokens
    text: Excerpt = ["\u2026" * (len(first.before) > AROUND) + first.before[-AROUND:], first]
    for token in others:
        between = _between(first, token)
        if between is not None:
            text += [between, token]
            first = token
    return [*text, first.after[:AROUND] + "\u2026" * (len(first.after) > AROUND)]


def _between(first: CostlyToken, second: CostlyToken) -> str | None:
    """What stands between two tokens of one response; None where their contexts do not meet."""
    for length in range(len(first.after) + 1 if second.position > first.position else 0):
        between = first.after[:length]
        if first.after.startswith(second.token, length) and second.before.endswith(first.token + between):
            return between
    return None


def shown(token: str) -> str:
    """A token's text; white space that would not be seen becomes a sign."""
    return token if token.strip() else "".join(VISIBLE.get(each, each) for each in token) or "\u2205"
