"""The tokens that cost a run most entropy, marked in their responses."""

from __future__ import annotations

from entropo_plugin.report.figure import Section
from entropo_plugin.report.runs import Run
from entropo_plugin.report.scale import number
from entropo_plugin.report.sections.metrics import lacking
from entropo_plugin.report.tags import text
from entropo_plugin.report.tokens import CostlyToken

LEAD = (
    "The sampled tokens whose reinforcement was predicted to take most entropy away, costliest first; cost in nats per "
    "unit of learning rate. A handful of tokens usually carries most of the loss."
)
REMEDY = "Train with entropo.monitor.tokens=20, or so many as you want a step."
AROUND = 160
LEVELS = 4
VISIBLE = {"\n": "\u21b5", "\t": "\u21e5", " ": "\u2423", "\r": "\u240d"}


def token_section(runs: list[Run]) -> Section:
    """One list of excerpts a run."""
    have = [run for run in runs if run.tokens]
    body = "".join(_list(run, colour, len(runs) > 1) for colour, run in enumerate(runs) if run.tokens)
    missing = lacking(runs, have, "side file tokens.jsonl", REMEDY)
    return Section("tokens", "The most expensive tokens", LEAD, missing=missing, body=body)


def _list(run: Run, colour: int, named: bool) -> str:
    top = max(token.cost for token in run.tokens)
    items = "".join(_item(token, top) for token in run.tokens)
    name = f'<h3><span class="key c{colour % 8}"></span>{text(run.name)}</h3>' if named else ""
    return f'{name}<ol class="tokens">{items}</ol>'


def _item(token: CostlyToken, top: float) -> str:
    level = max(1, round(LEVELS * token.cost / top)) if top > 0 else 1
    where = f"step {token.step}, token {token.position} of response {token.uid[:12]}"
    before = ("\u2026" if len(token.before) > AROUND else "") + token.before[-AROUND:]
    after = token.after[:AROUND] + ("\u2026" if len(token.after) > AROUND else "")
    return (
        f'<li><p class="cost"><b>{number(token.cost)}</b> {text(where)}</p>'
        f'<p class="response"><bdi>{text(before)}</bdi><mark class="heat{level}">{text(shown(token.token))}</mark>'
        f"<bdi>{text(after)}</bdi></p></li>"
    )


def shown(token: str) -> str:
    """A token's text; white space that would not be seen becomes a sign."""
    return token if token.strip() else "".join(VISIBLE.get(each, each) for each in token) or "\u2205"
