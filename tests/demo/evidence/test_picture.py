"""The picture is drawn for few and for many arms, with what a row may lack."""

from entropo_plugin.demo.evidence.arms import ARMS
from entropo_plugin.demo.evidence.picture import draw
from entropo_plugin.demo.evidence.results import results
from entropo_plugin.demo.evidence.rows import COLUMNS


def row(arm, seed, reward, distinct):
    values = dict.fromkeys(COLUMNS, "0") | {"task": "sums", "arm": arm, "rate": "1", "seed": str(seed)}
    numbers = {"trained_pass1": str(reward), "trained_distinct": str(distinct), "held_out_pass1": "0.5"}
    return values | numbers | {"after": "", "error": ""}


def test_every_arm_is_drawn(tmp_path):
    rows = [row(arm, seed, 0.5 + seed / 10, place % 7) for place, arm in enumerate(ARMS) for seed in range(2)]
    path = draw(results(rows, "sums"), "sums", tmp_path / "new" / "sums.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_one_run_is_enough(tmp_path):
    path = draw(results([row("grpo", 0, 0.0, 0)], "sums"), "sums", tmp_path / "one.png")
    assert path.stat().st_size > 5000
