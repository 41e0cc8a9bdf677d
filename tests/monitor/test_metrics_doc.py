"""docs/metrics.md and the code name the same metrics."""

import re
from pathlib import Path

import pytest
import torch

from entropo_plugin.monitor import (
    ChangeTracker,
    RewardLaw,
    StepTokens,
    dynamics_metrics,
    precision_report,
    step_metrics,
)

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
OURS = r"entropo/(tokens|entropy|logp|advantage|cov|diversity|pass_at|dynamics|law|precision|mismatch)/"
REDUCTIONS = ("min", "max", "sum", "total", "avg")


def full_step() -> StepTokens:
    """Two right and two wrong responses of 20 tokens, one of them cut, with every field present."""
    make = torch.Generator().manual_seed(0)
    logp = -torch.rand(4, 20, generator=make) - 0.1
    score = torch.zeros(4, 20)
    score[:2, -1] = 1.0
    return StepTokens(
        response_mask=torch.ones(4, 20),
        old_log_probs=logp,
        responses=torch.randint(0, 9, (4, 20), generator=make),
        response_length=torch.full((4,), 20),
        uid=["a", "b", "a", "b"],
        entropy=torch.rand(4, 20, generator=make),
        rollout_log_probs=logp + 0.01,
        advantages=torch.randn(4, 20, generator=make),
        rm_scores=score,
        truncated=torch.tensor([True, False, False, False]),
    )


def produced() -> set[str]:
    tokens, tracker, law = full_step(), ChangeTracker(), RewardLaw()
    found = step_metrics(tokens) | dynamics_metrics(tokens) | precision_report(tokens, logits="bfloat16").metrics
    for step, (entropy, score) in enumerate([(1.0, 0.1), (0.7, 0.2), (0.6, 0.4), (0.3, 0.5)]):
        found |= tracker.observe(step, entropy, -entropy)
        law.add(entropy, score)
    return {family(name) for name in found | law.metrics()}


def family(name: str) -> str:
    return re.sub(r"(?<=decile_)\d+$", "N", re.sub(r"(?<=pass_at/)\d+$", "K", name))


def rows() -> list[list[str]]:
    lines = [line for line in DOC.read_text().splitlines() if line.startswith("| `entropo/")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def documented() -> list[str]:
    return [name for row in rows() if re.match(OURS, name := row[0].strip("`"))]


def test_every_metric_is_documented_and_every_documented_one_is_produced():
    assert set(documented()) == produced()


def test_no_metric_is_documented_twice():
    assert len(documented()) == len(set(documented()))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_has_name_meaning_unit_range_and_warning(row):
    assert len(row) == 5 and all(row)


def test_names_and_reductions_agree():
    """verl reduces by substring: only a largest value may be called max."""
    named = [name for name in produced() if any(word in name for word in REDUCTIONS)]
    assert named == ["entropo/mismatch/abs_max"]


def test_all_names_of_the_code_carry_the_prefix():
    assert all(re.match(OURS, name) for name in produced())
