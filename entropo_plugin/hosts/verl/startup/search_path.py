"""Makes ``+entropo=NAME`` and our recipes known to every Hydra application, whatever its primary config.

Hydra discovers plugins in the namespace package ``hydra_plugins`` only, so the wheel installs this file there.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from entropo_plugin.recipe_files import folder


class EntropoSearchPath(SearchPathPlugin):
    """Appends our recipes after the application's own configs, so that none of its names is shadowed."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="entropo", path=f"file://{folder()}")
        # The parent too: ``+recipes=7b/NAME`` is a choice of the group ``recipes``, because Hydra's grammar for the
        # command line lets no group's name begin with a digit.
        search_path.append(provider="entropo", path=f"file://{folder().parent}")
