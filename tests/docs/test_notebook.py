"""docs/notebook.ipynb says what its cells print, and holds nothing that a run of Jupyter leaves behind."""

import contextlib
import io
import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_every_cell_prints_what_stands_below_it():
    names: dict = {}
    for number, cell in enumerate(CODE):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        assert said.getvalue() == "".join("".join(output["text"]) for output in cell["outputs"]), number


def test_it_is_small_and_clean():
    assert len(CODE) >= 6 and NOTEBOOK.stat().st_size < 20_000
    assert all(cell["execution_count"] is None and cell["metadata"] == {} for cell in CODE)
    assert {output["name"] for cell in CODE for output in cell["outputs"]} == {"stdout"}


def test_it_uses_what_the_package_offers():
    source = "".join(line for cell in CODE for line in cell["source"])
    assert "from entropo_plugin import" in source and "from entropo_plugin." not in source
