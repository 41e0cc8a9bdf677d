"""Which files are runs, which are attempts at one, in which order attempts came, and what of them counts."""

import json
import os
import struct
from pathlib import Path

import pytest

from entropo_plugin.report.attempts import natural, run_name
from entropo_plugin.report.runs import read_runs

ENTROPY = "entropo/entropy/token_mean"


def one(path):
    (run,) = read_runs([str(path)])
    return run


def values(run):
    data = run.metrics[ENTROPY]
    return dict(zip(data.steps.tolist(), data.values.tolist(), strict=True))


def steps(first, last, value):
    return {t: {ENTROPY: value} for t in range(first, last + 1)}


def test_a_copy_of_the_first_attempt_does_not_replace_the_second(log):
    """Attempts come in the order of their steps; when they were last written says nothing."""
    first, second = log("run/try-1.jsonl", steps(1, 6, 1.0)), log("run/try-2.jsonl", steps(4, 8, 2.0))
    os.utime(first, (200, 200)), os.utime(second, (100, 100))
    run = one(first.parent)
    assert values(run) == {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2, 8: 2}
    assert run.notes == [
        "Joined 2 attempts by step: try-1.jsonl, try-2.jsonl.",
        "try-1.jsonl went on to step 6; a later attempt starts at 4 and replaces it.",
    ]


@pytest.mark.parametrize("key", ["timestamp", "_timestamp", "wall_time", "time"])
def test_where_the_log_tells_times_attempts_come_in_their_order(log, key):
    """The third attempt went back behind the second; by steps it would be taken for the second."""
    for name, first, last, time in (("a", 1, 50, 1.7e9), ("b", 41, 80, 1.8e9), ("c", 31, 60, 1.9e9)):
        path = log(f"run/try-{name}1.jsonl", {t: {ENTROPY: float(time)} for t in range(first, last + 1)})
        path.rename(path.with_name(f"try-{ord(name)}.jsonl"))
    lines = {path: path.read_text().splitlines() for path in path.parent.iterdir()}
    for path, records in lines.items():
        timed = [json.loads(record) for record in records]
        path.write_text("".join(json.dumps(each | {key: each["data"][ENTROPY]}) + "\n" for each in timed))
    found = values(one(path.parent))
    assert (found[30], found[31], found[60], max(found)) == (1.7e9, 1.9e9, 1.9e9, 60)


def test_a_time_may_be_text_and_may_stand_in_the_data(log):
    for name, first, stamp in (("try-1", 5, "2026-11-25T12:00:00Z"), ("try-2", 1, "2026-11-25 14:00:00+00:00")):
        log(f"run/{name}.jsonl", {t: {ENTROPY: float(first), "timestamp": stamp} for t in range(first, first + 3)})
    assert values(one(log("run/other.txt", {}).parent)) == {1: 1, 2: 1, 3: 1}


def test_a_run_that_went_back_within_one_file_ends_where_it_ended(log):
    path = log("a.jsonl", steps(1, 100, 1.0))
    with path.open("a") as file:
        file.writelines(json.dumps({"step": t, "data": {ENTROPY: 2.0}}) + "\n" for t in range(50, 61))
    run = one(path)
    assert (run.last_step, values(run)[49], values(run)[50]) == (60, 1.0, 2.0)
    assert run.notes == [
        "Joined 2 attempts by step: a.jsonl, a.jsonl, part 2.",
        "a.jsonl went on to step 100; a later attempt starts at 50 and replaces it.",
    ]


def test_a_step_that_comes_late_but_was_never_logged_is_no_new_attempt(log):
    path = log("a.jsonl", {1: {ENTROPY: 1.0}, 3: {ENTROPY: 3.0}, 2: {ENTROPY: 2.0}, 4: {ENTROPY: 4.0}})
    assert (values(one(path)), one(path).notes) == ({1: 1, 2: 2, 3: 3, 4: 4}, [])


def test_the_validation_of_an_earlier_step_that_comes_late_is_no_new_attempt(log):
    path = log("a.jsonl", steps(1, 6, 1.0))
    with path.open("a") as file:
        file.write('{"step": 5, "data": {"val-core/m/acc/mean@8": 0.5}}\n')
        file.write(json.dumps({"step": 7, "data": {ENTROPY: 1.0}}) + "\n")
    run = one(path)
    assert (list(values(run)), run.notes) == ([1, 2, 3, 4, 5, 6, 7], [])
    assert run.metrics["val-core/m/acc/mean@8"].steps.tolist() == [5]


def test_a_resumed_run_that_validates_first_is_a_new_attempt(log):
    path = log("a.jsonl", steps(1, 20, 1.0))
    with path.open("a") as file:
        file.write('{"step": 10, "data": {"val-core/m/acc/mean@8": 0.5}}\n')
        file.writelines(json.dumps({"step": t, "data": {ENTROPY: 2.0}}) + "\n" for t in (11, 12))
    assert values(one(path)) == dict.fromkeys(range(1, 11), 1.0) | {11: 2.0, 12: 2.0}


def test_verls_default_layout_gives_one_run_an_experiment(log):
    log("ROOT/maths/grpo.jsonl", steps(1, 2, 1.0)), log("ROOT/maths/repo_r.jsonl", steps(1, 2, 2.0))
    root = log("ROOT/code/v1/deep/grpo.jsonl", steps(1, 2, 3.0)).parents[3]
    assert {run.name: values(run)[1] for run in read_runs([str(root)])} == {
        "deep/grpo": 3.0,
        "maths/grpo": 1.0,
        "repo_r": 2.0,
    }


def test_seeds_are_runs_and_tries_are_attempts(log):
    for name in ("seed-1", "seed-2", "lr1e-5", "lr1e-6", "20261125", "20261126"):
        log(f"ROOT/seeds/{name}.jsonl", steps(1, 3, 1.0))
    for name, first in (("grpo-try-1", 1), ("grpo-try-2", 3), ("repo_r_attempt1", 1), ("repo_r_attempt2", 3)):
        root = log(f"ROOT/tries/{name}.jsonl", steps(first, 4, 1.0)).parents[1]
    assert [run.name for run in read_runs([str(root)])] == [
        *("20261125", "20261126", "lr1e-5", "lr1e-6", "seed-1", "seed-2"),
        *("grpo", "repo_r"),
    ]


def test_a_run_that_may_be_an_attempt_says_how_to_join_it(log):
    log("maths/1764000000.jsonl", steps(1, 6, 1.0))
    runs = read_runs([str(log("maths/1764000999.jsonl", steps(4, 8, 1.0)).parent)])
    assert [run.notes for run in runs] == [
        [],
        [
            "Begins at step 4. If it goes on with another run of this folder, name the files NAME-try-1.jsonl, "
            "NAME-try-2.jsonl, and they are joined."
        ],
    ]


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("try-2.jsonl", ""),
        ("try-1764000000.jsonl", ""),
        ("try-2026-11-25_10-30.jsonl", ""),
        ("metrics.jsonl", ""),
        ("metrics.2.jsonl", ""),
        ("events.out.tfevents.1.host.1.0", ""),
        ("grpo-try-2.jsonl", "grpo"),
        ("Maths_Attempt_03.jsonl", "Maths"),
        ("grpo.jsonl", None),
        ("seed-1.jsonl", None),
        ("retry-1.jsonl", None),
        ("2026.jsonl", None),
        ("1\u00b22.jsonl", None),
    ],
)
def test_which_names_count_attempts(name, run):
    assert run_name(Path(name)) == run


def test_names_sort_by_their_numbers():
    names = ["try-10", "try-9", "1\u00b22", "\u0663", "try-" + "9" * 400]
    assert sorted(names, key=natural) == ["1\u00b22", "try-9", "try-10", "try-" + "9" * 400, "\u0663"]


def test_a_name_with_digits_that_are_no_decimals_is_read(log):
    assert one(log("1\u00b22.jsonl", steps(1, 2, 1.0)).parent).name == "1\u00b22"


def test_links_that_lead_in_a_circle_end(log):
    path = log("ROOT/a/metrics.jsonl", steps(1, 2, 1.0))
    (path.parent / "again").symlink_to(path.parents[1])
    (path.parents[1] / "b").symlink_to(path.parent)
    assert [run.name for run in read_runs([str(path.parents[1])])] == ["a"]


def test_rollouts_and_data_sets_below_a_run_are_passed_over(log):
    path = log("ROOT/a/metrics.jsonl", steps(1, 2, 1.0))
    for name in range(8):
        log(f"ROOT/a/rollouts/{name}.jsonl", {}).write_text('{"input": "x", "output": "y"}\n' * 200)
    assert one(path.parents[1]).notes == []
    for name in range(8):
        (path.parent / f"{name}.jsonl").write_text('{"input": "x"}\n')
    notes = one(path.parents[1]).notes
    assert "0.jsonl is no log of verl's file logger: none of its 1 lines has the form" in notes[0]
    assert notes[3:] == ["Left out: 5 more files that hold no run."]


def test_tensorboards_times_put_attempts_in_order(tmp_path):
    event_type = pytest.importorskip("tensorboard.compat.proto.event_pb2").Event
    for name, first, time, value in (("z", 1, 100.0, 1.0), ("a", 3, 200.0, 2.0), ("m", 2, 300.0, 3.0)):
        content = b""
        for step in range(first, first + 4):
            event = event_type(step=step, wall_time=time + step)
            event.summary.value.add(tag=ENTROPY, simple_value=value)
            body = event.SerializeToString()
            content += struct.pack("<Q", len(body)) + bytes(4) + body + bytes(4)
        (tmp_path / f"events.out.tfevents.{name}").write_bytes(content)
    assert values(one(tmp_path)) == {1: 1, 2: 3, 3: 3, 4: 3, 5: 3}


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 1e300, -1.0, 0.0])
def test_a_time_of_tensorboards_that_cannot_be_is_passed_over(tmp_path, time):
    event = pytest.importorskip("tensorboard.compat.proto.event_pb2").Event(step=1, wall_time=time)
    event.summary.value.add(tag=ENTROPY, simple_value=1.0)
    body = event.SerializeToString()
    (tmp_path / "events.out.tfevents.a").write_bytes(struct.pack("<Q", len(body)) + bytes(4) + body + bytes(4))
    assert one(tmp_path).setup.started == ""


def test_numbers_as_text_are_read_and_what_is_no_number_is_counted(log):
    kinds = {1: "0.45", 2: "NaN", 3: True, 4: None, 5: "high", 6: [1], 7: 0.5, 8: "9" * 500, 9: 1e300}
    run = one(log("a.jsonl", {step: {ENTROPY: value, "actor/entropy": 1.0} for step, value in kinds.items()}))
    assert values(run) == {1: 0.45, 7: 0.5, 9: 1e30}
    assert run.broken[ENTROPY].tolist() == [2, 4]
    assert run.notes == [
        f"{ENTROPY} is not finite at 2 steps, which are left out.",
        f"{ENTROPY} is beyond 1e+30 at 1 steps, which are drawn at that.",
        f"{ENTROPY} is no number at 4 steps, which are left out.",
    ]


def test_only_regular_files_are_read(log, tmp_path):
    path = log("run/metrics.jsonl", steps(1, 2, 1.0))
    os.mkfifo(path.parent / "pipe.jsonl")
    (path.parent / "zero.jsonl").symlink_to("/dev/zero")
    (path.parent / "below.jsonl").mkdir()
    for side in ("tokens.jsonl", "metrics.tokens.jsonl", "run.json"):
        os.mkfifo(path.parent / side)
    notes = one(path.parent).notes
    assert [note.split("/")[-1] for note in notes] == [
        "pipe.jsonl is a pipe: only regular files are read.",
        "zero.jsonl is a device: only regular files are read.",
        "metrics.tokens.jsonl is a pipe: only regular files are read.",
        "run.json is a pipe: only regular files are read.",
    ]


def test_a_huge_file_or_line_does_not_fill_the_memory(log):
    path = log("run/metrics.jsonl", steps(1, 2, 1.0))
    with (path.parent / "huge.jsonl").open("wb") as file:
        file.truncate(9 * 10**9)
    with path.open("ab") as file:
        file.write(
            b'{"step": 3, "data": {"x": "'
            + b"x" * 5_000_000
            + b'"}}\n{"step": 4, "data": {"%s": 4}}\n' % ENTROPY.encode()
        )
    run = one(path.parent)
    assert values(run) == {1: 1, 2: 1, 4: 4}
    assert run.notes[0].endswith("huge.jsonl has 9000 MB: at most 8000 MB are read.")
    assert run.notes[1] == "metrics.jsonl: 1 of 4 lines are not records and were passed over."
