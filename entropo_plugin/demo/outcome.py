"""What a demo training came to: the numbers of its table, from verl's own logs and validation dumps."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from entropo_plugin.launch import read_steps

ENTROPY, REWARD = "entropo/entropy/token_mean", "critic/score/mean"


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        reward: mean training reward of the last five steps.
        entropy_start, entropy_end: token-mean entropy, nats: the first step's, and the mean of the last five.
        distinct: distinct right answers per prompt among ``samples`` sampled after training.
        pass1, pass8: unbiased pass@k of the same samples.
    """

    name: str
    reward: float
    entropy_start: float
    entropy_end: float
    distinct: float
    pass1: float
    pass8: float
    samples: int
    steps: int
    seconds: float

    @classmethod
    def read(cls, name: str, folder: Path, seconds: float) -> Outcome:
        """From ``metrics.jsonl`` and the last file in ``validation/``."""
        from entropo_plugin.monitor import pass_at_k  # imports torch, which `entropo demo --help` does without

        reward, entropy = curve(folder, REWARD), curve(folder, ENTROPY)
        answers = last_validation(folder)
        right = [sum(score > 0.5 for _, score in group) for group in answers]
        samples = min(len(group) for group in answers)
        distinct = [len({text for text, score in group if score > 0.5}) for group in answers]
        pass1, pass8 = (mean([pass_at_k(samples, n, k) for n in right]) for k in (1, 8))
        last_reward, last_entropy = mean(reward[-5:]), mean(entropy[-5:])
        found = (mean(distinct), pass1, pass8, samples, len(reward), seconds)
        return cls(name, last_reward, entropy[0], last_entropy, *found)


def mean(values: list) -> float:
    """Arithmetic mean of at least one number."""
    return sum(values) / len(values)


def curve(folder: Path, metric: str) -> list[float]:
    """One metric over the logged training steps."""
    return [line["data"][metric] for line in read_steps(folder / "metrics.jsonl") if metric in line["data"]]


def last_validation(folder: Path) -> list[list[tuple[str, float]]]:
    """The last validation's (answer, score) pairs, one list per prompt."""
    newest = max((folder / "validation").glob("*.jsonl"), key=lambda path: int(path.stem))
    groups = defaultdict(list)
    for line in newest.read_text().splitlines():
        record = json.loads(line)
        groups[record["gts"]].append((record["output"], float(record["score"])))
    return list(groups.values())


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as aligned text."""
    head = ["run", "reward", "entropy (nats)", f"distinct right of {outcomes[0].samples}", "pass@1", "pass@8", "steps"]
    rows = [[*head, "seconds"]]
    for o in outcomes:
        change = f"{o.entropy_start:.2f} -> {o.entropy_end:.2f}"
        cells = [f"{o.reward:.2f}", change, f"{o.distinct:.1f}", f"{o.pass1:.2f}", f"{o.pass8:.3f}", str(o.steps)]
        rows.append([o.name, *cells, f"{o.seconds:.0f}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_summary(folder: Path, outcomes: list[Outcome], seed: int) -> Path:
    """``summary.json`` with the table's numbers, for machines."""
    path = folder / "summary.json"
    path.write_text(json.dumps({"seed": seed, "runs": [asdict(o) for o in outcomes]}, indent=1))
    return path
