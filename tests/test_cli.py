"""The command line: what a bare or a wrong command says, what each command imports, what ``entropo recipes`` shows."""

import re
import subprocess
import sys

import pytest

from entropo_plugin import cli
from entropo_plugin.recipe_files import composition

QUICK = [
    [], ["--version"], ["--help"], ["recipes"], ["recipes", "repo_r"], ["repots"], ["tasks"],
    ["launch", "--", "nosuch"],
    *([command, "--help"] for command in cli.COMMANDS),
]  # fmt: skip


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_no_command_imports_torch_or_verl_before_it_works(words):
    code = (
        "import sys\nfrom entropo_plugin import cli\n"
        f"try: cli.main({words})\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'verl', 'ray', 'hydra', 'matplotlib', 'pandas', 'reasoning_gym'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_bare_command_shows_help_with_every_command_once(capsys):
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    assert [len(re.findall(rf"^    {name} ", said, re.M)) for name in cli.COMMANDS] == [1] * len(cli.COMMANDS)


def test_a_wrong_command_names_the_nearest(capsys):
    assert cli.main(["repots"]) == 2
    assert "there is no command 'repots'. Did you mean `entropo report`?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["tasks", "--nosuch"])
    assert "tasks: unknown arguments: --nosuch" in capsys.readouterr().err


def test_a_program_that_is_not_there_is_one_sentence(capsys):
    assert cli.main(["launch", "--", "nosuch"]) == 127
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("entropo launch: nosuch cannot be run: No such file or directory.")


@pytest.mark.parametrize(("command", "place"), [(["tasks", "gcd", "--size", "1"], ""), (["demo"], "/task")])
def test_an_out_that_cannot_be_made_is_one_sentence(command, place, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main([*command, "--out", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"entropo {command[0]}: {tmp_path}/file{place}: ") and said.endswith(" Give another --out.")


@pytest.mark.parametrize("size", ["0", "-3", "1.5", "x"])
def test_a_size_is_a_positive_number(size, capsys):
    with pytest.raises(SystemExit):
        cli.main(["tasks", "gcd", "--size", size])
    assert f"argument --size: {size}: expected a positive number of prompts" in capsys.readouterr().err


def test_every_name_of_the_list_can_be_shown(capsys):
    assert cli.main(["recipes"]) == 0
    listed = capsys.readouterr().out
    names = re.findall(r"^(\+entropo\S*|(?:cpu|\d+b)/\S+)", listed, re.M)
    assert "+entropo=repo_r" in names and "7b/qwen2_5_grpo" in names and len(names) > 30
    for name in [*names, "repo_r", "entropo=repo_r", "+recipes=7b/qwen2_5_grpo"]:
        assert cli.main(["recipes", name]) == 0
        assert "python -m verl.trainer.main_ppo" in capsys.readouterr().out
    assert cli.main(["recipes", "repo_q"]) == 2
    assert "no recipe 'repo_q'. Did you mean repo_" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        ("", ""),
        ("+entropo=nosuch +entropo=adapo", ""),
        ("+entropo=adapo +entropo=repo_r", "name both in one choice: +entropo=repo_r_adapo"),
        ("+entropo=kl_cov +entropo=adapo", "name both in one choice: +entropo=adapo_kl_cov"),
        ("+entropo=repo_r +entropo=entropy_bonus", "name both in one choice: +entropo=[repo_r,entropy_bonus]"),
    ],
)
def test_the_composition_of_two_choices(choices, answer):
    assert composition(choices.split()) == answer
