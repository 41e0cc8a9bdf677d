"""The Hydra recipes: where they lie, what each needs, and the command that runs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations
from pathlib import Path

GROUPS = ("entropo", "entropo_host")
WHOLE = ("cpu", "7b", "8b", "32b")
FACTS = ("config", "model", "data", "gpus", "memory", "tested")


def folder() -> Path:
    """Folder of the recipes; ``entropo_plugin.recipes`` when installed from a wheel."""
    here = Path(__file__).resolve().parent
    packaged = here / "recipes"
    return packaged if packaged.is_dir() else here.parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """A whole recipe, as the comment at its head describes it.

    Attributes:
        name: room and file, such as ``7b/qwen2_5_kl_cov``; in a command ``+recipes=NAME``.
        about: what it trains, in prose.
        facts: what it needs: verl's primary config, model, data, GPUs, memory, and how it was tested.
        add: what its command must name besides, such as the method.
    """

    name: str
    about: str
    facts: dict[str, str]
    add: str = ""

    @property
    def command(self) -> str:
        """The full command, one argument group a line; TRAIN, TEST and MODEL are the user's."""
        config = self.facts["config"]
        named = "" if config == "ppo_trainer" else f" --config-name {config}"
        files = "data.train_files=TRAIN.parquet data.val_files=TEST.parquet"
        parts = [f"python -m verl.trainer.main_ppo{named}", f"+recipes={self.name}", self.add, files]
        return " \\\n  ".join(part for part in parts if part)


def recipes() -> list[Recipe]:
    """Every whole recipe, from the smallest model to the largest."""
    return [_read(path) for room in WHOLE for path in sorted((folder() / room).glob("*.yaml"))]


# Hydra's words where a group that takes one choice gets two.
MULTIPLE = "Multiple values for entropo"


def _chosen(arguments: list[str]) -> list[str]:
    """Names that ``+entropo=NAME``, given once or several times, or as a list, adds on a command line."""
    lists = [word.partition("=")[2] for word in arguments if word.startswith("+entropo=")]
    return list(dict.fromkeys(name.strip() for names in lists for name in names.strip("[]").split(",")))


def composition(arguments: list[str]) -> str:
    """What to write in place of several choices of the group ``entropo``, of which Hydra takes one.

    Two methods together are a file of their own, or a list; empty where a name is none of ours.
    """
    names, known = _chosen(arguments), {path.stem for path in (folder() / "entropo").glob("*.yaml")}
    if not names or not known.issuperset(names):
        return ""
    if len(names) == 1:
        return f"one choice is made already, by a recipe for example; write entropo={names[0]}, without +, in its place"
    files = ["_".join(order) for order in permutations(names) if "_".join(order) in known]
    return f"name both in one choice: +entropo={files[0] if files else '[' + ','.join(names) + ']'}"


def misplaced(arguments: list[str]) -> str:
    """What to write where a whole recipe stands as the primary configuration, or several were added; else empty."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, _, value = word.partition("=")
        name = (value or following).removeprefix("recipes/").removesuffix(".yaml")
        if flag in ("--config-name", "-cn") and _is_whole(name):
            return f"{flag} {name}: a recipe is added to verl's own configuration. Write +recipes={name} in its place."
    lists = [word.partition("=")[2].strip("[]") for word in arguments if word.startswith("+recipes=")]
    names = [name.strip() for names in lists for name in names.split(",")]
    if len(names) > 1 and all(map(_is_whole, names)):
        return f"+recipes={', '.join(names)}: each is a whole run. Keep one, and change its method with entropo=NAME."
    return ""


def _is_whole(name: str) -> bool:
    return name.split("/")[0] in WHOLE and (folder() / f"{name}.yaml").is_file()


def find(name: str) -> Recipe:
    """The whole recipe of that name.

    Raises:
        LookupError: there is none; the message lists the names.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    if name not in known:
        raise LookupError(f"no recipe {name!r}. Choose one of: {', '.join(known)}.")
    return known[name]


def choices() -> dict[str, Path]:
    """File of every choice that one word on a command line takes, by that word without its plus: ``entropo=repo_r``."""
    return {f"{group}={path.stem}": path for group in GROUPS for path in sorted((folder() / group).glob("*.yaml"))}


def shown(name: str) -> str:
    """What ``entropo recipes NAME`` prints, for every name of the list, written with or without its group.

    Raises:
        LookupError: no choice and no whole recipe has that name; the message names the nearest.
    """
    wanted, files = name.lstrip("+"), choices()
    for word, path in files.items():
        if wanted in (word, word.replace("=", "/"), path.stem):
            return _describe_choice(word, path)
    wholes = [recipe.name for recipe in recipes()]
    wanted = wanted.removeprefix("recipes=")
    if wanted in wholes:
        return describe(find(wanted))
    names = [path.stem for path in files.values()] + wholes
    near = get_close_matches(wanted, names, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise LookupError(f"no recipe {name!r}.{meant} Choose one of: {', '.join(names)}.")


def _describe_choice(word: str, path: Path) -> str:
    """One choice for the terminal: what it is, the keys that it sets, and where it goes."""
    keys = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    command = f"python -m verl.trainer.main_ppo <your own config> +{word}"
    return "\n".join([f"+{word}: {' '.join(_head(path))}", "", "It sets", *keys, "", command])


def _read(path: Path) -> Recipe:
    lines = _head(path)
    split = lines.index("") if "" in lines else len(lines)
    entries = dict(line.split(": ", 1) for line in lines[split + 1 :])
    add = entries.pop("add", "")
    return Recipe(f"{path.parent.name}/{path.stem}", " ".join(lines[:split]), entries, add)


def _head(path: Path) -> list[str]:
    """Lines of the comment at the head, without ``# @package``: prose, an empty line, then ``key: value``."""
    head = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").strip())
    return [line for line in head if not line.startswith("@package")]


def describe(recipe: Recipe) -> str:
    """One recipe for the terminal: what it is, what it needs, its command and how to change it."""
    needs = [f"{key + ':':<8} {recipe.facts[key]}" for key in FACTS]
    return "\n".join([f"{recipe.name}: {recipe.about}", "", *needs, "", recipe.command, "", _how_to_change(recipe)])


def _how_to_change(recipe: Recipe) -> str:
    method = "+entropo=NAME" if recipe.add else "entropo=NAME (without +, it has one)"
    check = f"entropo doctor --config-name {recipe.facts['config']} +recipes={recipe.name} {recipe.add}".rstrip()
    return f"Any key can be changed behind it; another method: {method}. To check it first:\n\n{check}"


def listing() -> str:
    """Every choice with the first sentence of its explanation, one group after the other."""
    lines = ["Add to any verl command, e.g. python -m verl.trainer.main_ppo ... +entropo=NAME", ""]
    lines += [f"{f'+{word}':<28} {_first_sentence(' '.join(_head(path)))}" for word, path in choices().items()]
    lines += ["", "Whole recipes; `entropo recipes NAME` prints what one sets or needs, and its command:", ""]
    lines.append(f"{'NAME':<34} {'GPUs':<44} what it trains")
    lines += [f"{each.name:<34} {each.facts['gpus']:<44} {_first_sentence(each.about)}" for each in recipes()]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?]) ", text)[0]
