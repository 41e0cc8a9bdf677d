"""What README and docs tell a reader to run: run here, or checked as far as a test can."""

import contextlib
import json
import re
import shlex
from pathlib import Path

import pytest
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from entropo_plugin import cli
from entropo_plugin.hosts.verl.startup.doctor import compose
from entropo_plugin.hosts.verl.startup.plan import Plan

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)]

# Everything that is not run as it stands, with the reason and what is checked in its place.
NOT_RUN = {
    "python -m verl.trainer.main_ppo": "trains: its overrides are composed with verl's config and checked by Plan",
    "make": "minutes of work, and this test is part of it: the target must exist",
    "pip install": "changes the environment: our name and its extras must exist",
    "entropo demo": "trains: its arguments are parsed",
    "entropo launch": "trains: its arguments are parsed",
    "entropo report --watch": "does not end: its arguments are parsed",
}


def fenced(page, language):
    """Blocks of one language, as (line, text); those in lists are indented."""
    text = page.read_text()
    for match in re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", text, re.S | re.M):
        body = re.sub(rf"^{match[1]}", "", match[2], flags=re.M)
        yield text[: match.start()].count("\n") + 2, body


def patched(page):
    """Commands shown as a diff, with the diff applied."""
    for line, body in fenced(page, "diff"):
        after = "\n".join(text[2:] for text in body.splitlines() if not text.startswith("-"))
        if after.startswith("python -m"):
            yield line, after


def commands():
    for page in PAGES:
        for line, body in [*fenced(page, "bash"), *patched(page)]:
            for command in re.sub(r"\\\n", " ", body).splitlines():
                words = shlex.split(re.sub(r"<[^>]*>", "", command), comments=True)
                if words:
                    yield pytest.param(words, id=f"{page.relative_to(ROOT)}:{line}: {' '.join(words)[:60]}")


def kind(words):
    """The key of NOT_RUN that a command falls under, or None."""
    for key in NOT_RUN:
        first, *rest = key.split()
        if words[: len(first.split())] == [first] and all(word in words for word in rest):
            return key
    return None


ALL = list(commands())


@pytest.mark.parametrize("words", ALL)
def test_each_command_does_what_the_page_says(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check = {
        None: run_entropo,
        "python -m verl.trainer.main_ppo": check_training,
        "make": check_target,
        "pip install": check_install,
        "entropo demo": check_arguments,
        "entropo launch": check_arguments,
        "entropo report --watch": check_arguments,
    }[kind(words)]
    check(words, capsys)


def test_no_excuse_is_left_over():
    assert {kind(param.values[0]) for param in ALL} - {None} == set(NOT_RUN)


def run_entropo(words, capsys):
    assert words[0] == "entropo", f"no rule for {' '.join(words)}: run it here, or name it in NOT_RUN"
    if words[1:2] == ["report"]:
        make_runs([word for word in words[2:] if "/" in word])
    with leaving() as left:
        status = cli.main([fewer(word) for word in words[1:]])
    out = capsys.readouterr().out
    if words[1] == "doctor":
        check_doctor(words, out)
    else:
        assert (left or [status]) == [0] and out


def fewer(word):
    """Thousands of generated tasks take half a minute."""
    return "20" if word.isdigit() and int(word) > 1000 else word


def check_doctor(words, out):
    problems = [line for line in out.splitlines() if line.startswith("PROBLEM")]
    assert all("device platform" in line for line in problems), out  # tests run without an accelerator
    assert ("recipe ppo_trainer: valid" in out) == ("--config-name" in words)


@contextlib.contextmanager
def leaving():
    """argparse leaves by SystemExit after --help and --version."""
    codes = []
    try:
        yield codes
    except SystemExit as exit:
        codes.append(exit.code)


def make_runs(paths):
    for path in map(Path, paths):
        log = path if path.suffix == ".jsonl" else path / "grpo" / "metrics.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        data = [{"entropo/entropy/token_mean": 1.5 - i / 20, "critic/score/mean": i / 20} for i in range(12)]
        log.write_text("".join(json.dumps({"step": i, "data": each}) + "\n" for i, each in enumerate(data, 1)))


def check_training(words, capsys):
    overrides = ["actor_rollout_ref.rollout.n=8", *words[3:]]  # as the reader's command has it
    assert any(word.startswith("+entropo") for word in overrides)
    config = compose("ppo_trainer", overrides)
    if any(word.startswith("actor_rollout_ref.model.path=") for word in overrides):  # meant to be complete
        validate_config(config, need_reference_policy(config), need_critic(config))
    warnings = Plan.from_config(config).warnings(config)
    assert [each for each in warnings if "entropy_from_logits_with_chunking=false" not in each] == []


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md", "docs/active.md"])
def test_the_start_up_line_is_the_codes(name):
    overrides = ["actor_rollout_ref.rollout.n=8", "algorithm.adv_estimator=grpo", "+entropo=repo_r"]
    line = Plan.from_config(compose("ppo_trainer", overrides)).in_words()
    assert f"```text\n{line}\n```" in (ROOT / name).read_text()


def check_target(words, capsys):
    assert len(words) >= 2 and re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)


def check_install(words, capsys):
    wanted = [word for word in words[2:] if word.startswith("entropo")]
    text = (ROOT / "pyproject.toml").read_text()
    for name, extras in re.findall(r"^([\w-]+)(?:\[([\w,]+)\])?$", "\n".join(wanted), re.M):
        assert f'name = "{name}"' in text
        assert all(re.search(rf"^{each} = \[", text, re.M) for each in filter(None, extras.split(",")))


def check_arguments(words, capsys):
    assert cli.build_parser().parse_args(words[1:]).command == words[1]


@pytest.mark.parametrize(
    ("page", "line", "code"),
    [
        pytest.param(page, line, code, id=f"{page.relative_to(ROOT)}:{line}")
        for page in PAGES
        for line, code in fenced(page, "python")
    ],
)
def test_each_python_block_runs(page, line, code, capsys):
    exec(compile(code, f"{page.name}:{line}", "exec"), {"__name__": "docs"})
    printed = capsys.readouterr().out.strip()
    if printed:  # what the page says that it prints
        said = next(text.strip() for _, text in fenced(page, "text") if text.split()[:2] == printed.split()[:2])
        numbers = [[float(x) for x in re.findall(r"\d+\.\d+", each)] for each in (printed, said)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.05)
