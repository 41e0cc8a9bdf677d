"""The script in docs/trl.md is short, runs as it stands, and its run can be drawn."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "trl.md"


def script():
    return re.search(r"```py\n(.*?)```", PAGE.read_text(), re.S)[1]


def test_the_script_has_at_most_forty_lines():
    assert len(script().splitlines()) <= 40


def test_the_script_trains_and_the_report_draws_it(tmp_path):
    # two steps stand for forty
    text = script().replace("max_steps=40", "max_steps=2, save_strategy='no'")
    assert "max_steps=2" in text
    (tmp_path / "sums.py").write_text("import torch\n\ntorch.set_num_threads(1)\n" + text)
    for command in (["sums.py"], ["-m", "entropo_plugin.cli", "report", "sums", "--out", "report.html"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text()
    assert "REPO-R" in page and "zeta" in page
