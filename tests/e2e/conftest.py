import pytest
from support import overrides_for

from entropo_plugin import launch
from entropo_plugin.demo import task


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A model warm-started for a few seconds, with its tokenizer and data."""
    folder = tmp_path_factory.mktemp("task")
    task.make(folder, seed=0, steps=120)
    return folder


@pytest.fixture
def verl(made, tmp_path):
    """Trains for real with verl's stock entry point; returns the logged steps."""

    def run(*overrides, folder="run", steps=3, patience=420):
        where = tmp_path / folder
        common = overrides_for(made, where, steps)
        launch.train(where, [*common, *overrides], lambda line: None, stall_seconds=patience)
        return [line for line in launch.read_steps(where / "metrics.jsonl") if "critic/score/mean" in line["data"]]

    return run
