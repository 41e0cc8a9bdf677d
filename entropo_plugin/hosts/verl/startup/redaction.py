"""Messages without secrets: what ``${oc.env:NAME}`` resolves to is shown as ``${oc.env:NAME}``."""

from __future__ import annotations

import os
import re
from typing import Any

from omegaconf import OmegaConf

VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*([A-Za-z_]\w*)")
# A shorter value would be replaced where it stands by chance.
SHORTEST = 4


def redact(text: str, config: Any) -> str:
    """``text`` with the value of every environment variable that ``config`` reads replaced by its interpolation.

    Args:
        config: an OmegaConf configuration, or any text that may hold interpolations.
    """
    for name in variables(config):
        for value in _as_printed(os.environ.get(name, "")):
            text = _without(text, value, f"${{oc.env:{name}}}")
    return text


def variables(config: Any) -> list[str]:
    """Names of the environment variables that a configuration reads."""
    plain = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config
    return sorted(set(VARIABLE.findall(str(plain))))


def _as_printed(value: str) -> list[str]:
    return [] if len(value) < SHORTEST else [value, repr(value)[1:-1]]


def _without(text: str, value: str, written: str) -> str:
    """Also where a message cut the value short."""
    text = text.replace(value, written)
    for end in range(len(value) - 1, 0, -1):
        text = text.replace(f"{value[:end]}...", f"{written}...")
    return text
