import json

import pytest


@pytest.fixture
def log(tmp_path):
    """Writes ``{step: {metric: value}}`` as verl's file logger would, and returns the path."""

    def write(name, steps, end="\n"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"step": step, "data": data}) for step, data in steps.items()]
        path.write_text("\n".join(lines) + end)
        return path

    return write


@pytest.fixture
def full(log):
    """A run with every metric that the report draws; 24 steps."""

    def write(name, fall=0.05):
        steps = {}
        for t in range(1, 25):
            entropy = 1.5 - fall * t
            data = {"entropo/entropy/token_mean": entropy, "critic/score/mean": 0.02 * t, "entropo/target": 1.2}
            data |= {"entropo/zeta": 0.01 * (-1) ** t, "entropo/zeta_at_bound": float(t > 20)}
            data |= {"entropo/dynamics/predicted": -5 * fall, "entropo/dynamics/from_positive": -6 * fall}
            data |= {f"entropo/entropy/{q}": entropy * k / 2 for k, q in enumerate(("q05", "q25", "q50", "q75", "q95"))}
            data |= {f"entropo/pass_at/{k}": 0.02 * t * k / 8 for k in (1, 2, 8)}
            if t % 4 == 0:
                data |= {"val-core/maths/acc/mean@8": 0.02 * t, "val-core/maths/acc/best@8/mean": 0.5 + 0.01 * t}
            steps[t] = data
        return log(name, steps)

    return write
