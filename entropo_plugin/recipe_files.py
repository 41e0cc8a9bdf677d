"""Where the Hydra recipes lie: inside an installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Folder of the recipes; ``entropo_plugin.recipes`` when installed from a wheel."""
    here = Path(__file__).resolve().parent
    packaged = here / "recipes"
    return packaged if packaged.is_dir() else here.parent / "recipes"
