"""Who may import whom, and that what runs is the installed wheel."""

import ast
from pathlib import Path

import entropo_plugin

ROOT = Path(__file__).resolve().parent.parent / "entropo_plugin"
PURE = {"objectives", "control", "monitor"}
CORE = PURE | {"config", "fields", "methods", "pipeline", "run"}
ALLOWED = {
    "fields": set(),
    "side_file": set(),
    "recipe_files": set(),
    "atomic": set(),
    "shapes": set(),
    "signs": set(),
    "launch": {"fields"},
    "objectives": {"shapes"},
    "control": {"fields"},
    "metric_names": set(),
    "monitor": {"fields", "metric_names", "shapes"},
    "methods": PURE | {"fields"},
    "config": {"control", "fields", "methods"},
    "run": {"control", "fields", "methods", "metric_names", "monitor"},
    "pipeline": {"control", "methods", "monitor", "objectives", "run"},
    "hosts": CORE | {"atomic", "metric_names", "plugin", "recipe_files", "side_file"},
    "plugin": {"hosts"},
    "report": {"config", "fields", "monitor", "recipe_files", "side_file"},
    "tasks": {"fields"},
    "demo": {"atomic", "config", "fields", "hosts", "launch", "monitor", "report", "tasks"},
    "cli": {"config", "demo", "fields", "hosts", "launch", "recipe_files", "report", "tasks"},
}
HOSTS = {"verl", "trl", "accelerate", "ray", "transfer_queue", "vllm", "tensordict"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_imports_run_one_way():
    for path in ROOT.rglob("*.py"):
        if room(path) == "__init__":
            continue
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("entropo_plugin.")}
        assert ours - {room(path)} <= ALLOWED[room(path)], path


def test_only_the_bridge_knows_a_host():
    for path in ROOT.rglob("*.py"):
        known = {name.split(".")[0] for name in imports(path)} & HOSTS
        assert not known or room(path) in {"hosts", "plugin"}, (path, known)


def test_the_installed_package_is_tested_not_the_checkout():
    assert "site-packages" in entropo_plugin.__file__


def test_files_fit_on_a_few_screens():
    lengths = {path.name: len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
