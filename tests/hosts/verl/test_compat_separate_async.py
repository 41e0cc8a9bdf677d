import importlib
import logging
from types import ModuleType

import pytest

from entropo_plugin.hosts.verl import compat

CODE = "import logging\nlogger = logging.getLogger('theirs')\ndef say():\n    logger.info('ready', flush=True)\n"


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A module with verl's mistake."""
    (tmp_path / "theirs_with_flush.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("theirs_with_flush")
    importlib.sys.modules.pop("theirs_with_flush", None)


def test_the_message_arrives_and_nothing_is_raised(theirs, caplog):
    with caplog.at_level(logging.INFO, "theirs"):
        with pytest.raises(TypeError, match="flush"):
            theirs.say()
        compat.fix_separate_async(theirs)
        compat.fix_separate_async(theirs)
        theirs.say()
    assert caplog.messages == ["ready"]


def test_verl_has_it_still_and_registration_mends_it():
    import inspect

    from verl.trainer.ppo.v1 import trainer_separate_async as module

    assert isinstance(module, ModuleType)
    assert isinstance(module.logger, compat.WithoutFlush) == ("flush=True" in inspect.getsource(module))
