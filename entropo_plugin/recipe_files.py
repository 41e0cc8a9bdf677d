"""Where the Hydra recipes lie: inside an installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Folder of the recipes; ``entropo_plugin.recipes`` when installed from a wheel."""
    here = Path(__file__).resolve().parent
    packaged = here / "recipes"
    return packaged if packaged.is_dir() else here.parent / "recipes"


GROUPS = ("entropo", "entropo_host", "cpu")


def listing() -> str:
    """Every choice with the first line of its explanation, one group after the other."""
    lines = []
    for group in GROUPS:
        for path in sorted((folder() / group).glob("*.yaml")):
            words = [
                line[2:] for line in path.read_text().splitlines() if line.startswith("# ") and "@package" not in line
            ]
            lines.append(f"+{group}={path.stem:<12} {words[0]}")
    return "\n".join(["Add to any verl command, e.g. python -m verl.trainer.main_ppo ... +entropo=repo_r", "", *lines])
