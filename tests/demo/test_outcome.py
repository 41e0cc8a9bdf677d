import json

import pytest

from entropo_plugin.demo.outcome import Ability, Outcome, table, write_summary


@pytest.fixture
def run(tmp_path):
    """Six logged steps, a validation line, and a dump of two prompts with eight answers each."""
    lines = [{"step": 0, "data": {"val-core/x": 1.0}}]
    for step in range(1, 7):
        data = {"entropo/entropy/token_mean": 2.0 - step / 10, "critic/score/mean": step / 10}
        lines.append({"step": step, "data": data})
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 7, "da'
    (tmp_path / "metrics.jsonl").write_text(text)
    answers = {"10": ["019", "019", "910", *["999"] * 5], "12": ["381", *["998"] * 7]}
    records = [
        {"gts": n, "output": a, "score": float(sum(map(int, a)) == int(n))}
        for n, group in answers.items()
        for a in group
    ]
    folder = tmp_path / "validation"
    folder.mkdir()
    (folder / "6.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "0.jsonl").write_text(json.dumps(records[0]))
    return tmp_path


def test_the_rows_numbers_by_hand(run):
    found = Outcome.read("REPO-R", run, 12.0, trained=[10])
    assert (found.steps, found.samples, found.seconds) == (6, 8, 12.0)
    assert found.reward == pytest.approx((0.2 + 0.3 + 0.4 + 0.5 + 0.6) / 5)
    assert (found.entropy_start, found.entropy_end) == (1.9, pytest.approx(1.6))
    assert found.trained == Ability(pass1=3 / 8, pass8=1.0, distinct=2.0)
    assert found.held_out == Ability(pass1=1 / 8, pass8=1.0, distinct=1.0)


def test_table_and_summary(run, tmp_path):
    found = Outcome.read("REPO-R", run, 12.0, trained=[10])
    lines = table([found]).splitlines()
    assert lines[0].split("  ")[0] == "run" and "1.90 -> 1.60" in lines[2] and lines[2].endswith("12")
    assert json.loads(write_summary(tmp_path, [found], 3).read_text())["runs"][0]["trained"]["distinct"] == 2.0
