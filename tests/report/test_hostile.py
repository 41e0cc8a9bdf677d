"""Whatever stands in a log or beside it, the report is drawn or refused in words; it never ends in a traceback."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entropo_plugin.report import main
from entropo_plugin.report.runs import read_runs

ENTROPY = "entropo/entropy/token_mean"
DIGITS = "9" * 400


@pytest.mark.parametrize("name", ["entropo/pass_at/0", f"entropo/pass_at/{DIGITS}", "entropo/pass_at/\u0663"])
def test_a_k_that_cannot_be_is_passed_over(log, tmp_path, name):
    path = log("a.jsonl", {t: {name: 0.5, "entropo/pass_at/2": 0.5, ENTROPY: 1.0} for t in (1, 2)})
    assert main([str(path), "--out", str(tmp_path / "r.html")]) == 0
    assert list(read_runs([str(path)])[0].training_pass) == [2]


def test_a_k_of_verls_that_cannot_be_is_passed_over(log, tmp_path):
    data = {
        f"val-core/m/acc/{kind}": 0.5 for kind in ("mean@0", f"mean@{DIGITS}", "best@0/mean", f"best@{DIGITS}/mean")
    }
    path = log("a.jsonl", {1: data | {"val-core/m/acc/mean@4": 0.5, "val-core/m/acc/best@4/mean": 0.7}})
    assert main([str(path), "--out", str(tmp_path / "r.html")]) == 0
    assert list(read_runs([str(path)])[0].validation_passes["m/acc"]) == [1, 4]


@pytest.mark.parametrize("cost", ["1e308", "-1e308", "1e999", "NaN", '"x"', DIGITS, "true", "null", "[]"])
def test_a_cost_that_cannot_be_is_passed_over(log, tmp_path, cost):
    path = log("a.jsonl", {1: {ENTROPY: 1.0}})
    lines = [
        f'{{"token": "t", "cost": {cost}}}',
        '{"token": "u", "cost": 2, "step": 1e300}',
        '{"token": "v", "cost": 2}',
    ]
    path.with_name("a.tokens.jsonl").write_text("\n".join(lines))
    assert main([str(path), "--out", str(tmp_path / "r.html")]) == 0
    assert "v" in [token.token for token in read_runs([str(path)])[0].tokens]


NAMES = st.sampled_from(
    [
        *(ENTROPY, "actor/entropy", "entropo/target", "entropo/z", "entropo/z_next", "entropo/z_at_bound", "entropo/"),
        *("entropo/_next", "entropo/_at_bound", "entropo/target_at_bound", "entropo/tokens/nonfinite_share"),
        *(
            "entropo/pass_at/1",
            "entropo/pass_at/8",
            "entropo/pass@0",
            "val-core/m/acc/mean@8",
            "val-core/m/best@2/mean",
        ),
        *("critic/score/mean", "entropo/dynamics/predicted", "entropo/dynamics/from_positive", "actor/grad_norm"),
        *(f"entropo/entropy/q{level}" for level in ("05", "25", "50", "75", "95")),
    ]
)
NUMBERS = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([0, -0.0, 1e29, -1e29, 1e-300, 5e-324, 10**400, 1e308]),
    st.text(max_size=5),
    st.none(),
    st.booleans(),
)
RECORDS = st.lists(
    st.tuples(st.one_of(st.integers(-5, 40), st.sampled_from([2**53 - 1, 2**60])), st.dictionaries(NAMES, NUMBERS)),
    max_size=40,
)
SAID = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.floats(), st.lists(st.none(), max_size=1))
ABOUT = st.fixed_dictionaries(
    {"format": st.just(1), "line": SAID},
    optional={
        "coefficients": st.dictionaries(
            st.sampled_from(["z", "target", "", "x/y"]),
            st.one_of(SAID, st.dictionaries(st.sampled_from(["label", "low", "high", "key", "method"]), SAID)),
        )
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(RECORDS, ABOUT)
def test_no_log_ends_in_a_traceback_or_in_a_broken_picture(tmp_path_factory, records, about):
    folder = tmp_path_factory.mktemp("hostile")
    lines = [json.dumps({"step": step, "data": data}) for step, data in records]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "metrics.run.json").write_text(json.dumps(about))
    status = main([str(folder), "--out", str(folder / "r.html")])
    assert status in (0, 2)
    if status == 0:
        data = re.search(r'id="data">(.*?)</script>', (folder / "r.html").read_text())[1]
        json.loads(data, parse_constant=pytest.fail)
