"""Keys that are almost ours: Hydra takes ``+entrop=repo_r`` as a new key, which verl does not read.

Looked at are the keys at the root of the configuration, those one level below, and choices of nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import Node, OmegaConf

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
    _check_node(config)


def _check_node(config: Any) -> None:
    """Refuse a node ``entropo:`` that holds nothing, and one that holds text.

    In a user's YAML a line ``entropo:`` with only comments below it is null, which deletes all that
    ``- entropo: repo_r`` set.
    """
    if OURS not in config:
        return
    value = config._get_node(OURS)._value()
    if value is None or value == {}:
        text = "null" if value is None else "{}"
        raise ConfigError(
            f"{OURS}={text} chooses nothing, and stock training would run: null also deletes what a defaults list "
            f"chose. Write +{OURS}=NAME, or delete the line."
        )
    if isinstance(value, str):
        raise ConfigError(
            f"{OURS}={value}: text below {OURS} chooses nothing. Write +{OURS}={value} on the command line, or "
            f"`- {OURS}: {value}` in a defaults list, below ppo_trainer."
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
        elif _is_switch(name, value):
            yield name, f"+{OURS}={name}"
        elif distance(name, RECIPES) <= 2 and _is_recipe(value):
            yield name, f"+{RECIPES}={_texts(value)[0]}"


def _below(config: Any) -> Iterator[tuple[str, str]]:
    """``+algorithm.entropo=repo_r``, and ``+entropo@mine=repo_r``."""
    for name in map(str, config):
        node = config._get_node(name)
        for below in map(str, node) if name not in NODES and OmegaConf.is_dict(node) and not node._is_none() else ():
            value = node._get_node(below)
            near = below.startswith(OURS) or distance(below, OURS) <= 2
            if _is_switch(below, value) or (near and (below != "entropy" or _looks_like_ours(value))):
                yield f"{name}.{below}", f"+{OURS}=NAME, without {name}"


def _looks_like_ours(node: Any) -> bool:
    """Whether a key ``entropy``, which a user's own code may read, was meant for us: a method's name, or our groups."""
    if OmegaConf.is_dict(node):
        return any(name in groups() or name in ROOT for name in node)
    return any(text in known() for text in _texts(node))


def _texts(node: Any) -> list[str]:
    """A key's value, or those of its list, as far as they are text."""
    nodes = list(node._iter_ex(resolve=False)) if OmegaConf.is_list(node) and not node._is_none() else [node]
    values = [each._value() if isinstance(each, Node) else each for each in nodes]
    return [value for value in values if isinstance(value, str)]


def _is_switch(name: str, node: Any) -> bool:
    """``+repo_r=true``: a key that is called as a method and switched on."""
    return name in known() and node is not None and node._value() is True


def _is_group(name: str, node: Any) -> bool:
    """Whether a key that is called as a group of ours holds that group's settings."""
    keys = {item.name for item in dataclasses.fields(groups()[name])}
    return OmegaConf.is_dict(node) and bool(node) and set(node) <= keys


def _is_recipe(node: Any) -> bool:
    """Whether the value names a recipe or a choice of ours: ``recipe`` alone may be a key of the user's."""
    stems = {path.stem for path in choices().values()}
    return any(text.partition("/")[0] in WHOLE or text in stems for text in _texts(node))


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
