"""Keys that are almost ours: Hydra takes ``+entrop=repo_r`` as a new key, which verl does not read.

Looked at are the keys at the root of the configuration, those one level below, and choices of nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from entropo_plugin.fields import ConfigError
from entropo_plugin.methods.registry import ROOT, groups, known
from entropo_plugin.recipe_files import WHOLE, choices

OURS = "entropo"
# Our keys at the root, and the group that names a whole recipe.
NODES, RECIPES = (OURS, "entropo_host", "entropo_settings"), "recipes"
EMPTY = re.compile(rf"\+*({'|'.join([*NODES, RECIPES, *WHOLE])})(@[^=]*)?=\[\s*\]")


def check_spelling(config: Any) -> None:
    """Refuse a key that is almost ours, and a choice of nothing.

    Raises:
        ConfigError: names the key and what was meant.
    """
    for path, meant in [*_at_the_root(config), *_below(config)]:
        raise ConfigError(f"{path}: nothing reads this key. Did you mean {meant}? Write it so, or delete it.")
    for word in _overrides():
        if EMPTY.fullmatch(word):
            raise ConfigError(f"{word} chooses nothing, and stock training would run. Name a choice, or delete it.")
    if OURS in config and OmegaConf.is_dict(node := config._get_node(OURS)) and not node:
        raise ConfigError(
            f"{OURS}={{}} chooses nothing, and stock training would run. Write +{OURS}=NAME, or delete it."
        )


def _at_the_root(config: Any) -> Iterator[tuple[str, str]]:
    for name in map(str, config):
        if name in NODES:
            continue
        near = [node for node in NODES if distance(name, node) <= 2]
        value = config._get_node(name)
        if near and (name != "entropy" or _looks_like_ours(value)):
            yield name, near[0]
        elif name.lower().startswith(OURS):
            yield name, f"+{OURS}=NAME, or a key below {OURS}"
        elif name in groups() and _is_group(name, value):
            yield name, f"{OURS}.{name}"
        elif distance(name, RECIPES) <= 2 and _is_recipe(value):
            yield name, f"+{RECIPES}={value._value()}"


def _below(config: Any) -> Iterator[tuple[str, str]]:
    """``+algorithm.entropo=repo_r``, and ``+entropo@mine=repo_r``."""
    for name in map(str, config):
        node = config._get_node(name)
        for below in map(str, node) if name not in NODES and OmegaConf.is_dict(node) and not node._is_none() else ():
            if below.startswith(OURS) or (below != "entropy" and distance(below, OURS) <= 2):
                yield f"{name}.{below}", f"+{OURS}=NAME, without {name}"


def _looks_like_ours(node: Any) -> bool:
    """Whether a key ``entropy``, which a user's own code may read, was meant for us: a method's name, or our groups."""
    if OmegaConf.is_dict(node):
        return any(name in groups() or name in ROOT for name in node)
    return node is not None and node._value() in known()


def _is_group(name: str, node: Any) -> bool:
    """Whether a key that is called as a group of ours holds that group's settings."""
    keys = {item.name for item in dataclasses.fields(groups()[name])}
    return OmegaConf.is_dict(node) and bool(node) and set(node) <= keys


def _is_recipe(node: Any) -> bool:
    """Whether the value names a recipe or a choice of ours: ``recipe`` alone may be a key of the user's."""
    value = None if OmegaConf.is_config(node) or node is None else node._value()
    stems = {path.stem for path in choices().values()}
    return isinstance(value, str) and (value.partition("/")[0] in WHOLE or value in stems)


def _overrides() -> list[str]:
    """The words of the command line, where Hydra has one."""
    from hydra.core.hydra_config import HydraConfig

    return [str(word) for word in HydraConfig.get().overrides.task] if HydraConfig.initialized() else []


def distance(a: str, b: str) -> int:
    """Number of letters to insert, delete or replace (Levenshtein); 3 stands for all that is more than 2."""
    if abs(len(a) - len(b)) > 2:
        return 3
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (left != right))
    return row[-1]
