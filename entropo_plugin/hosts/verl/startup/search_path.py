"""Makes ``+entropo=NAME`` and our recipes known to every Hydra application, whatever its primary config.

Hydra discovers plugins in the namespace package ``hydra_plugins`` only, so the wheel installs this file there.
"""

import sys
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from entropo_plugin.recipe_files import GROUPS, WHOLE, composition, folder, misplaced

GROUP, NAME = "entropo_settings", "defaults.yaml"
LISTED = {"": [*GROUPS, "recipes"], "recipes": [*WHOLE]}


class RecipeSource(FileConfigSource):
    """The folder of our recipes, in which each whole recipe ``7b/NAME`` is a choice of the group ``recipes`` too.

    Hydra's grammar lets no group's name begin with a digit, so the command line says ``+recipes=7b/NAME``. A recipe
    that builds on another names it ``/7b/NAME``. Listed is what a command line takes.
    """

    @staticmethod
    def scheme() -> str:
        return "entropo"

    def load_config(self, config_path: str) -> Any:
        return super().load_config(_in_folder(config_path))

    def is_group(self, config_path: str) -> bool:
        return super().is_group(_in_folder(config_path))

    def is_config(self, config_path: str) -> bool:
        return super().is_config(_in_folder(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path in LISTED:
            return [] if results_filter == ObjectType.CONFIG else LISTED[config_path]
        return super().list(_in_folder(config_path), results_filter)


def _in_folder(config_path: str) -> str:
    return config_path.removeprefix("recipes").removeprefix("/")


class EntropoSearchPath(SearchPathPlugin):
    """Appends our recipes after the application's own configs, so that none of its names is shadowed."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        _refuse(sys.argv)
        search_path.append(provider="entropo", path=f"{RecipeSource.scheme()}://{folder()}")
        node: Any = Defaults()
        stored = ConfigStore.instance().repo.setdefault(GROUP, {})
        stored[NAME] = ConfigNode(name=NAME, node=node, group=GROUP, package=None, provider="entropo")


def _refuse(command: list[str]) -> None:
    """verl's own start of what Hydra or verl would end, with advice that cannot be followed."""
    if Path(command[0]).name != "main_ppo.py":
        return
    if advice := misplaced(command[1:]):
        raise SystemExit(f"entropo: {advice}")
    words = [word for word in command[1:] if word.startswith("+entropo=")]
    if len(words) > 1 and (advice := composition(words)):
        raise SystemExit(f"entropo: {' '.join(words)}: Hydra takes one choice of a group; {advice}")


class Defaults:
    """Every key of the node ``entropo:`` with its default, so that each can be overridden without a ``+``.

    Hydra copies a stored node when a configuration names it, and only then are the methods imported, and torch with
    them: an application that does not use us pays nothing. The values are plain, because a typed node would put
    Hydra's messages in place of ours.
    """

    def __deepcopy__(self, memo: Any) -> Any:
        from entropo_plugin.config import defaults

        return OmegaConf.create(defaults())
