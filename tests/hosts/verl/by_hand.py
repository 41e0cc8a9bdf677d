"""What one training step must give, worked out token by token in plain Python; nothing here calls verl or us."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch

LIMIT = 6


@dataclass(frozen=True)
class Token:
    """One response token that the policy wrote."""

    place: tuple[str, int]
    advantage: float
    old: float
    now: float
    entropy: float
    weight: float = 1.0
    reference: float = 0.0
    chosen: bool = False

    @property
    def ratio(self) -> float:
        return math.exp(self.now - self.old)


def tokens(rows, advantages, old, now=None, reference=None):
    """A list of :class:`Token` for each row.

    Args:
        rows: of ``harness.sample``.
        advantages: each row's, by key: one number, or one for each position.
        old, now, reference: ``(V, V)`` logits of pi_old, of the current policy and of the reference policy.
    """
    found = []
    for row in rows:
        key, fields = row["key"], row["fields"]
        gain = advantages[key]
        gain = gain if isinstance(gain, list) else [gain] * len(fields["responses"])
        tables = [torch.log_softmax(old if each is None else each, -1) for each in (old, now, reference)]
        last = [int(fields["prompts"][-1]), *fields["responses"].tolist()]
        level = [[float(table[a, b]) for a, b in itertools.pairwise(last)] for table in tables]
        spread = [-float((tables[1][a].exp() * tables[1][a]).sum()) for a in last]
        found.append(
            [
                Token((key, n), gain[n], level[0][n], level[1][n], spread[n], reference=level[2][n])
                for n in range(len(fields["responses"]))
                if fields["response_mask"][n]
            ]
        )
    return found


def leave_one_out(rows):
    """Score less the mean of the other sessions' last outputs; every output of a session gets its last one's."""
    last = {}
    for row in rows:
        session, number = row["key"].rsplit("_", 1)
        if int(number) >= last.get(session, (-1, 0.0))[0]:
            last[session] = (int(number), float(row["fields"]["rm_scores"].sum()))
    gain = {}
    for session, (_, score) in last.items():
        prompt = session.rsplit("_", 1)[0]
        others = [s for name, (_, s) in last.items() if name.rsplit("_", 1)[0] == prompt and name != session]
        gain[session] = score - sum(others) / len(others) if others else 0.0
    return {row["key"]: gain[row["key"].rsplit("_", 1)[0]] for row in rows}


def covariances(batch):
    """``(log p_old - mean)(A - mean)`` by token."""
    flat = [token for row in batch for token in row]
    level = sum(token.old for token in flat) / len(flat)
    gain = sum(token.advantage for token in flat) / len(flat)
    return {token.place: (token.old - level) * (token.advantage - gain) for token in flat}


def mark(batch, chosen):
    return [[replace(token, chosen=token.place in chosen) for token in row] for row in batch]


def highest(batch, ratio):
    """Places of the floor(ratio N) tokens of highest covariance; the test's rows have no ties at the edge."""
    cov = covariances(batch)
    order = sorted(cov, key=cov.get, reverse=True)
    count = math.floor(ratio * len(order))
    assert cov[order[count - 1]] > cov[order[count]] + 1e-9
    return set(order[:count])


def inside(batch, low, high):
    """Places of the tokens whose covariance lies in the band."""
    return {place for place, cov in covariances(batch).items() if low <= cov <= high}


def ppo(token, low, high, dual=3.0):
    ratio = token.ratio
    loss = max(-token.advantage * ratio, -token.advantage * min(max(ratio, 1 - low), 1 + high))
    loss = min(loss, -token.advantage * dual) if token.advantage < 0 else loss
    return loss * token.weight


def repo_r(token, zeta):
    """REPO-R with the current log-prob, on verl's vanilla loss."""
    push, gain = zeta * max(token.now, -20.0), token.advantage
    shaped = max(0.0, gain * (1 - push)) if gain > 0 else min(0.0, gain * (1 + push))
    return ppo(replace(token, advantage=shaped), 0.2, 0.2)


def clip_cov(token):
    return 0.0 if token.chosen else ppo(token, 1.0, 1.0, math.inf)


def kl_cov(token, beta):
    penalty = beta * (token.now - token.old) ** 2 / 2 if token.chosen else 0.0
    return -token.advantage * token.ratio * token.weight + penalty


def aggregate(batch, term, mode, sequences):
    """verl's four means over a mini-batch of ``sequences`` rows, its padding rows among them."""
    rows = [[term(token) for token in row] for row in batch]
    if mode == "token-mean":
        return sum(map(sum, rows)) / sum(map(len, rows))
    if mode == "seq-mean-token-mean":
        return sum(sum(row) / len(row) for row in rows) / sequences
    scale = LIMIT if mode == "seq-mean-token-sum-norm" else 1
    return sum(map(sum, rows)) / sequences / scale
