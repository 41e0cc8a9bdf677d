"""What a demo training came to: the numbers of its table, from verl's own logs and validation dumps."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from entropo_plugin.launch import read_steps

ENTROPY, REWARD = "entropo/entropy/token_mean", "critic/score/mean"


@dataclass(frozen=True)
class Ability:
    """Means over prompts: unbiased pass@k, and different right answers among the samples of a prompt."""

    pass1: float
    pass8: float
    distinct: float

    @classmethod
    def of(cls, groups: list[list[tuple[str, float]]], samples: int) -> Ability:
        """From the (answer, score) pairs of each prompt."""
        from entropo_plugin.monitor import pass_at_k  # imports torch, which `entropo demo --help` does without

        right = [[text for text, score in group if score > 0.5] for group in groups]
        one, eight = (mean([pass_at_k(samples, len(texts), k) for texts in right]) for k in (1, 8))
        return cls(one, eight, mean([len(set(texts)) for texts in right]))


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        reward: mean training reward of the last five steps.
        entropy_start, entropy_end: token-mean entropy, nats: the first step's, and the mean of the last five.
        trained, held_out: what the policy can do after training, on prompts that were trained and on others.
        samples: answers sampled per prompt for that.
    """

    name: str
    reward: float
    entropy_start: float
    entropy_end: float
    trained: Ability
    held_out: Ability
    samples: int
    steps: int
    seconds: float

    @classmethod
    def read(cls, name: str, folder: Path, seconds: float, trained: Sequence[int]) -> Outcome:
        """From ``metrics.jsonl`` and the last file in ``validation/``; ``trained``: the numbers of the training."""
        reward, entropy = curve(folder, REWARD), curve(folder, ENTROPY)
        answers = last_validation(folder)
        kinds = [[group for n, group in answers.items() if (int(n) in trained) == kind] for kind in (True, False)]
        samples = min(len(group) for group in answers.values())
        able, others = (Ability.of(groups, samples) for groups in kinds)
        means = mean(reward[-5:]), entropy[0], mean(entropy[-5:])
        return cls(name, *means, able, others, samples, len(reward), seconds)


def mean(values: list) -> float:
    """Arithmetic mean of at least one number."""
    return sum(values) / len(values)


def curve(folder: Path, metric: str) -> list[float]:
    """One metric over the logged training steps."""
    return [line["data"][metric] for line in read_steps(folder / "metrics.jsonl") if metric in line["data"]]


def last_validation(folder: Path) -> dict[str, list[tuple[str, float]]]:
    """The last validation's (answer, score) pairs by the number that was asked for."""
    newest = max((folder / "validation").glob("*.jsonl"), key=lambda path: int(path.stem))
    groups = defaultdict(list)
    for line in newest.read_text().splitlines():
        record = json.loads(line)
        groups[record["gts"]].append((record["output"], float(record["score"])))
    return dict(groups)


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as aligned text."""
    many = f"distinct right of {outcomes[0].samples}"
    head = ["run", "reward", "entropy (nats)", "trained: pass@1", many, "held out: pass@1", "pass@8", many]
    rows = [[*head, "steps", "seconds"]]
    for o in outcomes:
        change = f"{o.entropy_start:.2f} -> {o.entropy_end:.2f}"
        trained = [f"{o.trained.pass1:.2f}", f"{o.trained.distinct:.1f}"]
        held_out = [f"{o.held_out.pass1:.2f}", f"{o.held_out.pass8:.3f}", f"{o.held_out.distinct:.1f}"]
        rows.append([o.name, f"{o.reward:.2f}", change, *trained, *held_out, str(o.steps), f"{o.seconds:.0f}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_summary(folder: Path, outcomes: list[Outcome], seed: int) -> Path:
    """``summary.json`` with the table's numbers, for machines."""
    path = folder / "summary.json"
    path.write_text(json.dumps({"seed": seed, "runs": [asdict(o) for o in outcomes]}, indent=1))
    return path
