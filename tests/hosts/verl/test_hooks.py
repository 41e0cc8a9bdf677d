import importlib.util
import logging
import sys

import pytest

from entropo_plugin.hosts.verl.startup import import_hooks as hooks


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module on the path that nobody has imported yet."""
    (tmp_path / "hooked_module.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "hooked_module"
    sys.modules.pop("hooked_module", None)
    hooks._waiting.pop("hooked_module", None)


def test_acts_once_after_the_import_and_at_once_if_already_imported(module):
    seen = []

    def action(found):
        seen.append(found.value)

    hooks.after_import(module, action)
    hooks.after_import(module, action)
    assert seen == []
    __import__(module)
    assert seen == [1]
    hooks.after_import(module, action)
    assert seen == [1, 1]


def test_a_search_for_the_module_does_not_use_the_action_up(module):
    seen = []

    def action(found):
        seen.append(found.value)

    hooks.after_import(module, action)
    assert importlib.util.find_spec(module) is not None and seen == []
    __import__(module)
    assert seen == [1]


def test_a_failing_action_does_not_break_the_import_but_is_heard(module, caplog, monkeypatch):
    monkeypatch.setattr(hooks, "failures", {})

    def action(found):
        raise RuntimeError("no luck")

    hooks.after_import(module, action)
    with caplog.at_level(logging.WARNING, "entropo_plugin"):
        assert __import__(module).value == 1
    assert "no luck" in caplog.text and "entropo doctor" in caplog.text
    assert list(hooks.failures.values()) == ["RuntimeError: no luck"]


def test_a_module_that_does_not_exist_stays_an_import_error():
    hooks.after_import("no_such_module_here", lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        __import__("no_such_module_here")
    hooks._waiting.pop("no_such_module_here")
