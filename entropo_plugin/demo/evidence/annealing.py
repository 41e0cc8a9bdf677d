"""``python -m entropo_plugin.demo.evidence.annealing``: constant against annealed coefficients, where all is exact.

One prompt with 100 answers of which 20 are right, a softmax policy whose start knows some right answers far better than
others, and exact gradient ascent on

    sum p r + alpha H(p)          entropy bonus, optimum p ~ exp(r / alpha)
    sum p r - b KL(p, p0)         anchor, optimum p ~ p0 exp(r / b)

The coefficient is constant, or falls linearly to 0 over the first half. In the limit of many steps an annealed one
costs no reward (arXiv 2604.09676); what it leaves of the spread depends on the way.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIGHT, ANSWERS = 20, 100
STEPS, RATE = 4000, 1.0


def start() -> tuple[Tensor, Tensor]:
    """Logits of p0 and rewards: a fifth of p0 is right, spread over right answers that differ by up to e^3."""
    reward = torch.zeros(ANSWERS, dtype=torch.float64)
    reward[:RIGHT] = 1.0
    logits = torch.zeros(ANSWERS, dtype=torch.float64)
    logits[:RIGHT] = torch.linspace(-1.5, 1.5, RIGHT, dtype=torch.float64)
    p = logits.softmax(0)
    wanted = 0.2
    logits[:RIGHT] += torch.logit(torch.tensor(wanted, dtype=torch.float64)) - torch.logit(p[:RIGHT].sum())
    return logits, reward


def ascend(kind: str, coefficient: float, annealed: bool, steps: int = STEPS) -> dict[str, float]:
    """Reward, entropy of the right answers and expected distinct right answers of 64 after exact gradient ascent.

    Args:
        kind: bonus or anchor.
        coefficient: alpha or b of the first step.
        annealed: whether it falls to 0 over the first half of the steps.
    """
    logits, reward = start()
    log_p0 = logits.log_softmax(0)
    for step in range(steps):
        now = coefficient * max(0.0, 1 - 2 * step / steps) if annealed else coefficient
        log_p = logits.log_softmax(0)
        p = log_p.exp()
        value = reward - now * (log_p if kind == "bonus" else log_p - log_p0)
        logits = logits + RATE * p * (value - (p * value).sum())
    return outcome(logits, reward)


def outcome(logits: Tensor, reward: Tensor) -> dict[str, float]:
    """What the policy can do."""
    p = logits.softmax(0)
    right = p[reward > 0]
    share = right / right.sum()
    distinct = (1 - (1 - right) ** 64).sum()
    entropy = -(share * share.log()).sum()
    return {"reward": float((p * reward).sum()), "right_entropy": float(entropy), "distinct": float(distinct)}


def main() -> int:
    """Print the table."""
    rows = {"start": outcome(*start()), "no term": ascend("bonus", 0.0, False)}
    for kind in ("bonus", "anchor"):
        for coefficient in (0.03, 0.1, 0.3):
            for annealed in (False, True):
                way = "annealed to 0" if annealed else "constant"
                rows[f"{kind} {coefficient:g}, {way}"] = ascend(kind, coefficient, annealed)
    print("| | reward | entropy of the right answers | distinct right of 64 |\n|---|---|---|---|")
    for name, found in rows.items():
        print(f"| {name} | {found['reward']:.3f} | {found['right_entropy']:.2f} | {found['distinct']:.1f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
