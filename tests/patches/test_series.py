"""Every draft for verl applies to the installed verl, alone and with all others, and is described as verl wants it."""

import re
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path

import pytest
from series import DEPENDS, FOLDER, OUTCOME, PATCHES, added_tests, apply, letter, needed, touched

TITLE = re.compile(r"# \[[a-z, ]+\] (feat|fix|refactor|chore|test): \S.*")
SECTIONS = ["What does this PR do?", "Duplicates", "Design and code changes", "API and usage", "Tests", "Not done"]
VERL = Path(find_spec("verl").origin).parent.parent
each_patch = pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)


def partial_copy(folder, *patches):
    """Those files of the installed verl that the patches change."""
    for path in {path for patch in patches for path in touched(patch)}:
        if (VERL / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes((VERL / path).read_bytes())
    return folder


@each_patch
def test_applies_with_what_it_needs(patch, tmp_path):
    chain = [*needed(patch), patch]
    apply(partial_copy(tmp_path, *chain), *chain)
    assert all((tmp_path / path).exists() for path in touched(patch))


def test_all_apply_in_order(tmp_path):
    apply(partial_copy(tmp_path, *PATCHES), *PATCHES)


def test_a_patch_that_does_not_fit_is_refused(tmp_path):
    later = next(patch for patch in PATCHES if needed(patch))
    with pytest.raises(AssertionError, match=f"(?s){later.name}: .*patch does not apply"):
        apply(partial_copy(tmp_path, *needed(later), later), later)


@each_patch
def test_touches_verl_and_its_tests_only_and_adds_tests_of_its_own(patch):
    assert {path.split("/")[0] for path in touched(patch)} == {"verl", "tests"}
    assert all(path.endswith("_on_cpu.py") for path in added_tests(patch))
    others = [path for other in PATCHES if other != patch for path in added_tests(other)]
    assert added_tests(patch) and not set(added_tests(patch)) & set(others)


@each_patch
def test_no_line_is_longer_than_verl_allows(patch):
    added = [line[1:] for line in patch.read_text().splitlines() if line.startswith("+") and line[:3] != "+++"]
    assert [line for line in added if len(line) > 120] == []


@each_patch
def test_is_described_as_verl_asks(patch):
    text = letter(patch)
    assert TITLE.fullmatch(text.splitlines()[0])
    assert re.findall(r"^## (.*)$", text, re.M) == [*SECTIONS, "AI assistance"]
    assert DEPENDS.search(text)
    assert [path for path, _, _ in OUTCOME.findall(text)] == added_tests(patch)


@each_patch
def test_the_table_names_it_with_its_title(patch):
    title = letter(patch).splitlines()[0].removeprefix("# ")
    assert f"| [{patch.name[:4]}]({patch.stem}.md) | {title} |" in (FOLDER / "README.md").read_text()


def test_users_do_not_get_the_patches():
    assert not [str(path) for path in files("entropo-plugin") or [] if "patches" in str(path)]
