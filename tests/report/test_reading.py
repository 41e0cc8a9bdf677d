import json
import math
import os
import struct

import pytest

from entropo_plugin.report import main
from entropo_plugin.report.files import ReportError
from entropo_plugin.report.runs import read_runs
from entropo_plugin.report.tokens import read_tokens

ENTROPY = "entropo/entropy/token_mean"


def one(path):
    (run,) = read_runs([str(path)])
    return run


def test_reads_verls_file_logger(log):
    run = one(log("grpo/metrics.jsonl", {1: {ENTROPY: 1.5, "timing_s/step": 3.0}, 2: {ENTROPY: 1.25}}))
    assert run.name == "grpo"
    assert list(run.metrics) == [ENTROPY, "timing_s/step"]
    assert run.metrics[ENTROPY].values.tolist() == [1.5, 1.25]
    assert run.notes == []


def test_reads_what_verls_own_logger_writes(tmp_path, monkeypatch):
    tracking = pytest.importorskip("verl.utils.tracking")
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "own.jsonl"))
    logger = tracking.FileLogger("project", "own")
    logger.log({ENTROPY: 1.5, "critic/score/mean": float("nan")}, step=1)
    run = one(tmp_path / "own.jsonl")
    assert run.metrics[ENTROPY].values.tolist() == [1.5]
    assert run.notes == ["critic/score/mean is not finite at 1 steps, which are left out."]


def test_half_a_last_line_is_noted_and_the_rest_read(log):
    path = log("a.jsonl", {1: {ENTROPY: 1.5}, 2: {ENTROPY: 1.25}}, end='\n{"step": 3, "data": {"entr')
    run = one(path)
    assert run.metrics[ENTROPY].steps.tolist() == [1, 2]
    assert run.notes == ["a.jsonl ends within a line: the run is being written, or was interrupted."]


def test_torn_lines_in_the_middle_are_counted(log):
    path = log("a.jsonl", {1: {ENTROPY: 1.5}})
    path.write_bytes(
        path.read_bytes()
        + b'\x00\x00\n[1]\n{"step": "x", "data": {}}\n{"step": 2, "data": {"%s": NaN}}\n' % ENTROPY.encode()
    )
    assert one(path).notes == [
        "a.jsonl: 3 of 5 lines are not records and were passed over.",
        f"{ENTROPY} is not finite at 1 steps, which are left out.",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: nothing has been logged yet"),
        (b'{"step": 1, "da', "holds less than one whole line"),
        (b"epoch,loss\n1,2\n", "is no log of verl's file logger"),
        (b'{"step": 1, "data": {"loss": 2}}\n', "logs none of the metrics"),
        (b"[" * 100_000 + b"\n", "is no log of verl's file logger"),
        (b'{"step": 1e300, "data": {"actor/entropy": 2}}\n', "is no log of verl's file logger"),
    ],
)
def test_what_is_no_run_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=said) as error:
        one(path)
    assert str(path) in str(error.value)


def test_missing_paths_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ReportError, match="does not exist"):
        one(tmp_path / "nowhere")
    with pytest.raises(ReportError, match="holds no run"):
        one(tmp_path)


def test_values_too_large_to_draw_are_finite_and_drawn_as_the_largest(log):
    run = one(log("a.jsonl", {1: {ENTROPY: -1e308}, 2: {ENTROPY: "high"}, 3: {ENTROPY: 0.5}, 4: {ENTROPY: 10**400}}))
    assert run.metrics[ENTROPY].values.tolist() == [-1e30, 0.5, 1e30] and not run.broken
    assert f"{ENTROPY} is beyond 1e+30 at 2 steps, which are drawn at that." in run.notes


def test_rewards_at_the_edge_of_the_numbers_are_never_called_not_finite(log, tmp_path, capsys):
    path = log("a.jsonl", {t: {ENTROPY: 1.0, "critic/score/mean": 1e308 * (-1) ** t} for t in range(1, 31)})
    assert main([str(path), "--json", "--out", str(tmp_path / "r.html")]) == 0
    said = capsys.readouterr()
    assert [each["headline"] for each in json.loads(said.out)["findings"]] == ["Entropy held"]
    assert "Warning" not in said.err and "not finite" not in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("time", [1e29, -1e29, "9999-12-31T23:59:59-12:00"])
def test_a_time_that_cannot_be_is_passed_over(log, time):
    assert one(log("a.jsonl", {1: {ENTROPY: 1.0, "timestamp": time}})).setup.started == ""


def test_attempts_are_joined_and_the_later_one_wins(log):
    first = log("run/try-1.jsonl", {t: {ENTROPY: 1.0} for t in range(1, 8)})
    second = log("run/try-2.jsonl", {5: {"val-core/m/acc/mean@8": 0.5}, 6: {ENTROPY: 2.0}})
    os.utime(first, (100, 100)), os.utime(second, (200, 200))
    run = one(first.parent)
    assert run.name == "run"
    assert run.metrics[ENTROPY].steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.metrics[ENTROPY].values.tolist() == [1, 1, 1, 1, 1, 2]
    assert run.notes == [
        "Joined 2 attempts by step: try-1.jsonl, try-2.jsonl.",
        "try-1.jsonl went on to step 7; a later attempt starts at 5 and replaces it.",
    ]


def test_attempts_of_the_same_second_go_by_natural_name(log):
    for name, value in (("try-10.jsonl", 10.0), ("try-9.jsonl", 9.0)):
        path = log(f"run/{name}", {1: {ENTROPY: value}})
        os.utime(path, (100, 100))
    assert one(path.parent).metrics[ENTROPY].values.tolist() == [10.0]


def test_files_beside_the_log_that_are_none_are_left_out(log):
    path = log("run/metrics.jsonl", {1: {ENTROPY: 1.0}})
    (path.parent / "samples.jsonl").write_text('{"prompt": "x"}\n')
    assert "Left out" in one(path.parent).notes[0]


def test_a_folder_of_runs_gives_each(log):
    log("demo/a/metrics.jsonl", {1: {ENTROPY: 1.0}})
    path = log("demo/b/metrics.jsonl", {1: {ENTROPY: 2.0}})
    assert [run.name for run in read_runs([str(path.parent.parent), str(path)])] == ["a", "b", "b (2)"]


def events(path, count, torn=0):
    from tensorboard.compat.proto.event_pb2 import Event

    path.parent.mkdir(exist_ok=True)
    content = b""
    for step in range(1, count + 1):
        event = Event(step=step)
        event.summary.value.add(tag=ENTROPY, simple_value=step / 4)
        body = event.SerializeToString()
        content += struct.pack("<Q", len(body)) + bytes(4) + body + bytes(4)
    path.write_bytes(content[: len(content) - torn])
    return path


def test_tensorboard_events_are_read_up_to_where_they_break_off(tmp_path):
    path = events(tmp_path / "tb" / "events.out.tfevents.1.host.1.0", 4, torn=3)
    run = one(path.parent)
    assert run.name == "tb"
    assert run.metrics[ENTROPY].values.tolist() == [0.25, 0.5, 0.75]
    assert "ends within an event" in run.notes[0]


def test_tensorboard_as_torch_writes_it(tmp_path):
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(str(tmp_path / "tb"))
    writer.add_scalar(ENTROPY, 1.5, 7)
    writer.close()
    run = one(tmp_path / "tb")
    assert (run.metrics[ENTROPY].steps.tolist(), run.metrics[ENTROPY].values.tolist()) == ([7], [1.5])


def test_events_beside_a_file_log_are_left_out(log):
    folder = log("run/metrics.jsonl", {1: {ENTROPY: 9.0}}).parent
    events(folder / "events.out.tfevents.1.host.1.0", 2)
    run = one(folder)
    assert run.metrics[ENTROPY].values.tolist() == [9.0]
    assert "events were left out" in run.notes[0]


def test_costly_tokens_come_costliest_first_and_bad_lines_are_counted(tmp_path):
    lines = [
        '{"token": " a", "cost": 1}',
        '{"token": 17, "change": -2.5, "step": 3}',
        '{"token": "b"}',
        "x",
        '{"token": "c", "cost": NaN}',
    ]
    (tmp_path / "tokens.jsonl").write_text("\n".join(lines))
    tokens, notes = read_tokens([(tmp_path / "tokens.jsonl", math.inf)])
    assert [(token.token, token.cost) for token in tokens] == [("17", 2.5), (" a", 1.0)]
    assert notes == ["tokens.jsonl: 3 of 5 lines could not be read and were passed over."]


def side_file(log, **costs):
    """``step_3=2.5``: a token of that cost in step 3, named after its file and step."""
    path = log.with_name(f"{log.stem}.tokens.jsonl")
    steps = {int(name.removeprefix("step_")): cost for name, cost in costs.items()}
    lines = [json.dumps({"step": step, "token": f"{log.stem} {step}", "cost": cost}) for step, cost in steps.items()]
    path.write_text("\n".join(lines) + "\n")


def test_each_log_has_a_side_file_of_its_own(log):
    first, second = (log(f"project/{name}.jsonl", {1: {ENTROPY: 1.0}}) for name in "ab")
    side_file(first, step_1=1.0)
    side_file(second, step_1=2.0)
    assert [token.token for run in read_runs([str(first), str(second)]) for token in run.tokens] == ["a 1", "b 1"]


def test_a_log_without_one_takes_the_folders(log):
    path = log("run/metrics.jsonl", {1: {ENTROPY: 1.0}})
    (path.parent / "tokens.jsonl").write_text('{"token": "x", "cost": 1}\n')
    assert [token.token for token in one(path).tokens] == [token.token for token in one(path.parent).tokens] == ["x"]


def test_tokens_of_steps_that_were_trained_anew_are_shown_once(log):
    """The second attempt resumes from step 4; what the first one wrote of step 5 and later never came to count."""
    first = log("run/try-1.jsonl", {t: {ENTROPY: 1.0} for t in range(1, 8)})
    second = log("run/try-2.jsonl", {t: {ENTROPY: 2.0} for t in range(5, 7)})
    os.utime(first, (100, 100)), os.utime(second, (200, 200))
    side_file(first, step_3=3.0, step_5=5.0, step_6=6.0, step_7=7.0)
    side_file(second, step_5=1.0, step_6=2.0)
    assert [token.token for token in one(first.parent).tokens] == ["try-1 3", "try-2 6", "try-2 5"]


def test_runs_come_in_natural_order(log, tmp_path):
    paths = [str(log(f"runs/seed{number}/metrics.jsonl", {1: {ENTROPY: 1.0}})) for number in (1, 10, 2)]
    for asked in ([str(tmp_path)], paths):
        assert [run.name for run in read_runs(asked)] == ["seed1", "seed2", "seed10"]
    assert [run.name for run in read_runs(paths[::-1])] == ["seed2", "seed10", "seed1"]
    for number in (1, 10, 2):
        log(f"flat/seed{number}.jsonl", {1: {ENTROPY: 1.0}})
    assert [run.name for run in read_runs([str(tmp_path / "flat")])] == ["seed1", "seed2", "seed10"]
