"""What the report's own words may name: settings that exist, and no method."""

import ast
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import entropo_plugin.report
from entropo_plugin.config import describe
from entropo_plugin.recipe_files import folder

ROOT = Path(entropo_plugin.report.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
METHODS = re.compile(
    r"\b(repo|adapo|clip_cov|kl_cov|repo_r|repo_d|repo_neutral|zeta|clip_high|beta_neutral|pull|entropy_coeff|mopo"
    r"|(clip|kl)-cov)\b",
    re.IGNORECASE,
)


def strings(path):
    """Every string of a source file that is no docstring; of an f-string its fixed parts."""
    tree = ast.parse(path.read_text())
    bodies = [node.body for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
    return [node.value for node in constants if isinstance(node.value, str)]


def named(pattern):
    return {found for path in SOURCES for text in strings(path) for found in re.findall(pattern, text)}


def test_every_setting_that_the_report_names_exists():
    keys = {row[0] for row in describe()}
    groups = {".".join(key.split(".")[:length]) for key in keys for length in range(2, key.count(".") + 1)}
    mentioned = named(r"\bentropo\.[a-z_][a-z_.]*[a-z_]")
    assert {"entropo.monitor.tokens", "entropo.target"} <= mentioned
    assert mentioned - keys - groups == set()


def test_every_recipe_that_the_report_names_exists():
    choices = {path.stem for path in (folder() / "entropo").glob("*.yaml")}
    assert named(r"\+entropo=([a-z_]+)") == {"monitor"} <= choices


def test_every_setting_of_verls_that_the_report_names_exists():
    config = pytest.importorskip("verl.trainer.config")
    tree = Path(config.__file__).parent
    actor, rollout = OmegaConf.load(tree / "actor/actor.yaml"), OmegaConf.load(tree / "rollout/rollout.yaml")
    mentioned = named(r"\bactor_rollout_ref\.([a-z_.]*[a-z_])")
    assert mentioned == {"actor.calculate_entropy", "rollout.val_kwargs.n", "rollout.val_kwargs.do_sample"}
    assert actor.calculate_entropy is False and {"n", "do_sample"} <= set(rollout.val_kwargs)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_knows_a_method_by_name(path):
    assert METHODS.findall(path.read_text()) == []


def test_the_check_sees_names():
    assert [bool(METHODS.search(text)) for text in ("repo_r", "REPO's", "KL-Cov", "report", "a repository")] == [
        *(True, True, True),
        *(False, False),
    ]
