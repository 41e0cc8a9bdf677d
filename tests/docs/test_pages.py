"""What the pages name exists: keys with their defaults, metrics, choices, files; and what exists is documented."""

import re
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from entropo_plugin.config import describe
from entropo_plugin.methods import registry
from entropo_plugin.recipe_files import folder

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)]
OBJECTIVES = sorted((ROOT / "docs" / "objectives").glob("*.md"))
# the settings of the worked example in docs/extending.md, which a package of the reader's brings
EXAMPLE = {f"entropo.mine.{name}": None for name in ("initial", "high", "delta")}
DEFAULTS = {key: default for key, default, *_ in describe()}
KEY = r"(?<![\w/.])entropo(?:\.[a-z_0-9]+)+"
SECTIONS = ["Equation", "Source and mark", "Keys", "Cost", "When it cannot act", "What to watch"]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
each_objective = pytest.mark.parametrize("page", OBJECTIVES, ids=lambda page: page.stem)


def keys(line):
    """Keys of one line; a short form such as `.end` stands for a sibling of the key before it."""
    found = []
    for full, short in re.findall(rf"({KEY})|`\.([a-z_]+)`", line):
        found.append(full or f"{found[-1].rsplit('.', 1)[0]}.{short}" if found else full)
    return [key for key in found if key]


def exists(key):
    return any(each == key or each.startswith(f"{key}.") for each in DEFAULTS | EXAMPLE)


@each_page
def test_every_key_exists(page):
    lines = page.read_text().splitlines()
    named = {key for line in lines for key in (keys(line) if page in OBJECTIVES else re.findall(KEY, line))}
    assert [key for key in sorted(named) if not exists(key)] == []


def test_every_key_is_documented():
    written = {key for page in PAGES for line in page.read_text().splitlines() for key in keys(line)}
    assert sorted(set(DEFAULTS) - written) == []


def rows(page):
    """(keys, cell of defaults) for the rows of a page's table of keys."""
    section = page.read_text().split("\n## Keys\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `entropo"):
            yield keys(cells[0]), cells[1]


@each_objective
def test_documented_defaults_are_the_codes(page):
    compared = 0
    for names, cell in rows(page):
        values = [each.strip("` ").split(":")[0].strip("`").split()[0] for each in cell.split(", ")]
        if "as [" in cell or names[0].startswith("entropo.target"):
            continue
        values = values * len(names) if len(values) == 1 else values
        assert len(values) == len(names), (names, cell)
        for name, value in zip(names, values, strict=True):
            assert same(DEFAULTS[name], value), f"{name} is {DEFAULTS[name]}, the page says {value}"
            compared += 1
    assert compared or page.stem in ("repo_d", "unlikely_positive")


def same(default, written):
    if default is None or isinstance(default, bool | str):
        return {None: "null", True: "true", False: "false"}.get(default, default) == written
    return float(written) == default


@each_objective
def test_every_objective_page_has_the_same_sections(page):
    assert re.findall(r"^## (.*)$", page.read_text(), re.M) == SECTIONS


def test_every_objective_has_a_page():
    assert {page.stem for page in OBJECTIVES} == set(registry.known())


def documented_metrics():
    text = (ROOT / "docs" / "metrics.md").read_text()
    names = re.findall(r"`(entropo/[\w/]+)`", text)
    (sides,) = re.findall(r"^\| `entropo/clip/SIDE`(.*)$", text, re.M)
    names += ["entropo/NAME", *(f"entropo/clip/{side}" for side in re.findall(r"`(\w+)`", sides))]
    steered = {name for name in names if name.count("/") == 1}
    return set(names) | {f"{name}_{kind}" for name in steered for kind in ("next", "at_bound")}


@each_page
def test_every_metric_is_in_the_dictionary(page):
    known = documented_metrics()
    for name in re.findall(r"`(entropo/[\w/]+)`", page.read_text()):
        family = re.sub(r"(?<=decile_)\d+$", "N", re.sub(r"(?<=pass_at/)\d+$", "K", name))
        assert family in known or any(each.startswith(name) for each in known if name.endswith("/")), name


@each_page
def test_every_choice_of_a_group_exists(page):
    for group, name in re.findall(r"\+(entropo|entropo_host|cpu)=([a-z_]+)", page.read_text()):
        assert (folder() / group / f"{name}.yaml").is_file(), (group, name)


@each_page
def test_every_file_that_is_named_exists(page):
    for path in re.findall(r"`((?:entropo_plugin|tests|docs|recipes|patches)/[\w./]+)`", page.read_text()):
        assert "NAME" in path or "_build" in path or (ROOT / path).exists(), path


def test_the_readmes_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text())
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"^([\w/]+)$", (ROOT / "docs" / "index.md").read_text(), re.M)
    # what is not in the changelog yet is for whoever releases
    read = [page for page in PAGES if page.name != "README.md" and page.parent.name != "changes"]
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in read}
    assert sorted(pages - {"index"}) == sorted(listed)


def test_the_diagram_is_a_picture_of_its_own():
    """Titled for who cannot see it, colours for both schemes, nothing loaded from elsewhere."""
    path = ROOT / "docs" / "images" / "step.svg"
    tree = xml.fromstring(path.read_text())
    named = {node.tag.rsplit("}", 1)[-1]: node.text for node in tree}
    assert named["title"] and named["desc"] and "prefers-color-scheme: dark" in named["style"]
    assert not any("href" in name for node in tree.iter() for name in node.attrib)
