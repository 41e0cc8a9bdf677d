"""The example of docs/extending.md is the package that tests/test_stranger.py builds; docs/porting.md runs alone."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import entropo_plugin
from entropo_plugin.config import kind
from entropo_plugin.control import Target
from entropo_plugin.methods import Host, Tokens, registry
from entropo_plugin.methods.active import coefficients
from entropo_plugin.pipeline import prepare_batch
from entropo_plugin.run import Run

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
STRANGER = Path(__file__).parents[1] / "stranger"


def source(page=PAGE, language="python"):
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.S | re.M)
    return code


@pytest.fixture
def mine(monkeypatch):
    """The class, and its settings beside all others, as an installed package would bring them."""
    names: dict = {"__name__": "stranger"}
    exec(compile(source(), PAGE.name, "exec"), names)
    monkeypatch.setattr(registry, "_known", registry.known() | {"mine": names["Mine"]})
    return names["Mine"]


def test_the_page_shows_the_package_that_is_built_and_trained_with():
    assert source() == (STRANGER / "stranger.py").read_text()
    assert source(language="toml") in (STRANGER / "pyproject.toml").read_text()


def test_a_method_is_a_file_of_less_than_forty_lines():
    assert len(source().splitlines()) < 40


def test_it_damps_likely_tokens_of_right_answers_only(mine):
    """A = 2, strength .1: 2 (1 - .1 p) for p = .9 and .1; A = -2 stays; what stands in the padding does not matter."""
    settings = kind()(methods=("mine",))
    run = Run([mine(settings, Host())], settings)
    logp = torch.tensor([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5]]).log()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    advantage = torch.tensor([[2.0, 2.0, 0.0], [-2.0, -2.0, -2.0]])
    prepared = prepare_batch(run, Tokens(logp, mask, logp, advantage))
    torch.testing.assert_close(prepared.advantage, torch.tensor([[1.82, 1.98, 0.0], [-2.0, -2.0, -2.0]]))
    assert prepared.metrics["entropo/shift"] == pytest.approx((0.18 + 0.02) / 5)


def test_its_strength_follows_the_entropy(mine):
    settings = kind()(methods=("mine",), target=Target(kind="value", value=1.0))
    run = Run([mine(settings, Host())], settings)
    moved = []
    for step, entropy in enumerate((0.9, 0.8, 1.1), 1):
        run.loop.observe(entropy, 1)
        run.loop.updated = True
        moved.append(run.end_step(step)["entropo/strength_next"])
    assert moved == pytest.approx([0.15, 0.2, 0.15])
    assert coefficients(run.methods)["strength"].label == "damping of likely tokens"


ALONE = ("__init__.py", "fields.py", "metric_names.py", "shapes.py", "objectives", "control", "monitor")


def test_three_folders_and_three_files_run_without_any_host(tmp_path):
    """None in sys.modules makes an import fail, wherever it stands."""
    installed, copy = Path(entropo_plugin.__file__).parent, tmp_path / "entropo_plugin"
    copy.mkdir()
    for name in ALONE:
        each = installed / name
        (shutil.copytree if each.is_dir() else shutil.copy)(each, copy / name)
    blocked = "import sys\nsys.modules.update(dict.fromkeys(('verl', 'ray', 'tensordict', 'transfer_queue', 'vllm')))\n"
    here = "import entropo_plugin, entropo_plugin.monitor\nprint(entropo_plugin.__file__)\n"
    code = blocked + f"sys.path.insert(0, {str(tmp_path)!r})\n" + here + source(PAGE.with_name("porting.md"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(copy)) and "without control" in done.stdout


def test_the_page_names_what_can_be_copied_alone():
    (said,) = re.findall(r"copy them with(.*?);", PAGE.with_name("porting.md").read_text(), re.S)
    files = [name for name in ALONE if name.endswith(".py")]
    assert re.findall(r"`entropo_plugin/(\w+\.py)`", said) == files
