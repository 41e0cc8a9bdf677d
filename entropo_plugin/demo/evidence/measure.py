"""What a policy can do, from many samples a prompt: reward, different right answers, their entropy, pass@k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import comb
from typing import Any

SAMPLES = 128
KS = (1, 2, 4, 8, 16, 32, 64)
# distinct right answers are counted among so many
DRAWN = 64


@dataclass(frozen=True)
class Answers:
    """The samples of one prompt: texts, log-probs of whole answers in nats, and numbers of tokens."""

    prompt: str
    texts: list[str]
    logps: list[float]
    lengths: list[int]


def measured(answers: Iterable[Answers], right: Callable[[str, str], bool]) -> dict[str, float]:
    """Means over prompts.

    ``distinct`` is the expected number of different right answers among 64 samples, ``right_entropy`` the entropy of
    the right answers in nats a token, as ``entropo/entropy/right_answers``.
    """
    from entropo_plugin.monitor.samples import digamma_gap, pass_at_k

    passes: dict[int, list[float]] = {k: [] for k in KS}
    distinct, surprise, tokens = [], 0.0, 0
    for each in answers:
        marks = [right(text, each.prompt) for text in each.texts]
        size, count = len(marks), sum(marks)
        for k in KS:
            passes[k].append(pass_at_k(size, count, k))
        distinct.append(expected_distinct(Counter(t for t, mark in zip(each.texts, marks, strict=True) if mark), size))
        surprise -= sum(logp for logp, mark in zip(each.logps, marks, strict=True) if mark)
        surprise -= count * digamma_gap(count, size)
        tokens += sum(length for length, mark in zip(each.lengths, marks, strict=True) if mark)
    found = {f"pass{k}": mean(values) for k, values in passes.items()} | {"distinct": mean(distinct)}
    return found | {"right_entropy": surprise / tokens if tokens else float("nan")}


def expected_distinct(counts: Counter[str], size: int, drawn: int = DRAWN) -> float:
    """Different ones among ``drawn`` of ``size`` samples, on average over draws: ``sum 1 - C(n - c, d) / C(n, d)``."""
    ways = comb(size, drawn)
    return sum((ways - comb(size - count, drawn)) / ways for count in counts.values())


def mean(values: list[float]) -> float:
    """Arithmetic mean; NaN of nothing."""
    return sum(values) / len(values) if values else float("nan")


def sample(model: Any, tok: Any, prompts: Iterable[str], response: int, seed: int) -> list[Answers]:
    """``SAMPLES`` answers a prompt at temperature 1, drawn with a generator of its own."""
    import torch

    model.eval()
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return [_answers(model, tok, prompt, response) for prompt in prompts]


def _answers(model: Any, tok: Any, prompt: str, response: int) -> Answers:
    import torch

    ids = tok(prompt, return_tensors="pt")["input_ids"].repeat(SAMPLES, 1)
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=response,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    answer = out.sequences[:, ids.shape[1] :]
    logp = torch.stack(out.logits, 1).log_softmax(-1).gather(-1, answer[..., None])[..., 0]
    ended = (answer == tok.eos_token_id).long().cumsum(-1)
    mask = (ended - (answer == tok.eos_token_id).long()) == 0
    texts = tok.batch_decode(answer, skip_special_tokens=True)
    return Answers(prompt, texts, (logp * mask).sum(-1).tolist(), mask.sum(-1).tolist())
