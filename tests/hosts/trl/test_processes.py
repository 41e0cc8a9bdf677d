"""Two processes choose, measure and steer as one process does on the same batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import two_processes

HERE = Path(__file__).parent


@pytest.mark.filterwarnings("ignore")
def test_two_processes_do_what_one_does(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    script = [str(HERE / "two_processes.py"), str(tmp_path)]
    # python -m would find the checkout in the present folder
    subprocess.run(launch + script, check=True, cwd=tmp_path, env=environment, timeout=3600, capture_output=True)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    for name in two_processes.ENTROPO:
        alone = two_processes.run(tmp_path, name, 1)
        assert first[name]["prepared"] == second[name]["prepared"]
        assert first[name]["state"] == second[name]["state"]
        assert first[name]["weights"] == second[name]["weights"]
        compare(first[name], alone)


def compare(two, one):
    for mine, theirs in zip(two["prepared"], one["prepared"], strict=True):
        assert mine["selected"] == theirs["selected"]
        for row, other in zip(mine["advantage"], theirs["advantage"], strict=True):
            assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert two["metrics"]["entropo/tokens/count"][0] > 0
    for name, values in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(values, rel=1e-4, abs=1e-6), name
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-5)
