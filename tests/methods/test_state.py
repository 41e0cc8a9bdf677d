"""A run that is stopped and resumed goes on as if it had not been, to the last bit."""

import json

import pytest
from golden import run_of, steps

from entropo_plugin.config import ConfigError

ENTROPIES = (0.31, 0.17, 0.12, 0.45, 0.29, 0.08, 0.2)
RUNS = {
    "entropic": {},
    "stare": {"stare": {"law": "additive", "two_sided": True, "delta": 0.013}},
    "entropy_range": {"entropy_range": {"low": 0.2, "high": 0.3, "low_end": 0.1, "high_end": 0.2, "steps": 5}},
    "entropy_bonus": {"entropy_coeff": {"law": "skywork"}},
}


def resumed(name, state):
    run = run_of(name, **RUNS[name])
    run.load_state_dict(json.loads(json.dumps(state)), "the checkpoint")
    return run


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_same_run(name):
    whole = run_of(name, **RUNS[name])
    expected = steps(whole, *ENTROPIES)
    for stop in range(1, len(ENTROPIES)):
        run = run_of(name, **RUNS[name])
        before = steps(run, *ENTROPIES[:stop])
        run = resumed(name, run.state_dict(stop))
        after = steps(run, *ENTROPIES[stop:], first=stop + 1)
        assert before + after == expected
        assert run.state_dict(7) == whole.state_dict(7)


@pytest.mark.parametrize("garbled", [{"total": "much"}, {"total": float("inf")}, {"step": -1}, {"steps": 1}])
def test_a_garbled_memory_is_refused(garbled):
    run = run_of("entropic")
    state = run.state_dict(0)
    state["methods"]["entropic"] |= garbled
    with pytest.raises(ConfigError, match="methods.entropic"):
        run_of("entropic").load_state_dict(state, "the checkpoint")
