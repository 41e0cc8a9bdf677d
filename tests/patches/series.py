"""The patches of ``patches/``: what each needs, how it is applied to a copy of verl, how its tests are run."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "patches"
PATCHES = sorted(FOLDER.glob("[0-9]*.patch"))
DEPENDS = re.compile(r"^Depends on: (.+)\.$", re.M)
OUTCOME = re.compile(r"^`(tests/\S+)`: before the patch (.+); with it all (\d+) pass\.$", re.M)


def letter(patch):
    """The draft of the pull request beside a patch."""
    return patch.with_suffix(".md").read_text()


def needed(patch):
    """The patches to apply before this one, in order."""
    found = DEPENDS.search(letter(patch)).group(1)
    return [each for each in PATCHES if each.name[:4] in found.split(", ")]


def touched(patch):
    """Paths that a patch changes or adds."""
    return re.findall(r"^\+\+\+ b/(\S+)$", patch.read_text(), re.M)


def added_tests(patch):
    """The tests that a patch adds."""
    return [path for path in touched(patch) if path.startswith("tests/")]


def copy_verl(folder):
    """The installed verl, whole, below ``folder``."""
    shutil.copytree(Path(find_spec("verl").origin).parent, folder / "verl")
    return folder


def clone(source, folder):
    """A cheap copy: ``git apply`` replaces files and never writes into them, so that hard links are safe."""
    shutil.copytree(source, folder, copy_function=os.link)
    return folder


def apply(folder, *patches):
    """Apply patches to a folder that holds ``verl/``, refusing any that does not fit exactly."""
    for patch in patches:
        command = ["git", "apply", "--whitespace=error-all", str(patch)]
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{patch.name}: {done.stderr}"
    return folder


def run_tests(folder, files, *options, plugins="none", cwd=None):
    """Run tests against the verl in ``folder``, in a process of their own; returns outcome by test, and the output."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options, *files]
    env = {**os.environ, "PYTHONPATH": str(folder), "VERL_USE_EXTERNAL_PLUGINS": plugins}
    # the installed package is tested, not the one in the current folder
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=cwd or folder, env=env, capture_output=True, text=True)
    cases = ET.parse(report).getroot().iter("testcase")
    outcomes = {f"{case.get('classname')}::{case.get('name')}": _passed(case) for case in cases}
    return outcomes, done.stdout[-6000:] + done.stderr[-2000:]


def _passed(case):
    return case.find("failure") is None and case.find("error") is None and case.find("skipped") is None


def failures(outcomes):
    return sorted(name for name, passed in outcomes.items() if not passed)
