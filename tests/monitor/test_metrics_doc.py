"""docs/metrics.md, metric_names.py and the code name the same metrics."""

import ast
import re
from pathlib import Path

import pytest
import torch

import entropo_plugin
from entropo_plugin.metric_names import METRICS, at_bound, clip, coefficient, decile, next_value, pass_at
from entropo_plugin.monitor import (
    ChangeTracker,
    RewardLaw,
    Sampled,
    StepTokens,
    dynamics_metrics,
    precision_report,
    step_metrics,
)

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
OURS = r"entropo/(tokens|entropy|logp|advantage|cov|diversity|kept|pass_at|dynamics|law|precision|mismatch)/"
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
    found |= step_metrics(tokens, sampled=Sampled())
    for step, (entropy, score) in enumerate([(1.0, 0.1), (0.7, 0.2), (0.6, 0.4), (0.3, 0.5), (0.2, 0.6), (0.1, 0.6)]):
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


def test_the_document_gives_the_names_units_and_meanings_of_metric_names():
    written = {name: row for row in rows() for name in re.findall(r"`(entropo/[^`]+)`", row[0])}
    for name, metric in METRICS.items():
        assert written[name][1].replace("\\|", "|") == metric.meaning, name
        assert written[name][2] == metric.unit, name
        assert metric.unit and metric.meaning


def test_every_metric_of_the_monitor_has_a_name_there():
    assert produced() <= set(METRICS)
    assert {clip("SIDE"), "entropo/target", "entropo/skipped", "entropo/monitor/seconds"} <= set(METRICS)


def test_families_of_names():
    assert decile(10) == "entropo/entropy/decile_10" and pass_at(8) == "entropo/pass_at/8"
    assert clip("dual") == "entropo/clip/dual" and coefficient("zeta") == "entropo/zeta"
    assert next_value("zeta") == "entropo/zeta_next" and at_bound("zeta") == "entropo/zeta_at_bound"


@pytest.mark.parametrize("room", ["monitor", "hosts/verl/metrics"])
def test_no_other_module_spells_a_metrics_name(room):
    for path in (Path(entropo_plugin.__file__).parent / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            assert not (isinstance(text, str) and text.startswith("entropo/")), (path.name, text)
