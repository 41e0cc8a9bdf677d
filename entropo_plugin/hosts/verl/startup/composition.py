"""verl's configuration as ``python -m verl.trainer.main_ppo ARGUMENTS`` composes it, without starting anything.

Hydra's own parser, search path and loader do the work. Its public ``compose`` knows none of the command line's flags,
and ``hydra.main`` makes output folders and log files.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NoReturn

from entropo_plugin.fields import ConfigError

# Of @hydra.main in verl/trainer/main_ppo.py.
ENTRY, CONFIG_PATH, CONFIG_NAME = "verl.trainer.main_ppo", "config", "ppo_trainer"


def compose(name: str, overrides: list[str], folder: str | None = None) -> Any:
    """verl's whole configuration from a primary config's name and overrides; ``folder`` holds more configs."""
    where = ["--config-dir", folder] if folder else []
    return compose_command([*where, "--config-name", name, *overrides])[0][1]


def compose_command(arguments: list[str]) -> list[tuple[str, Any]]:
    """Name and configuration of every job that these arguments of ``main_ppo`` start: one, or a sweep's.

    Raises:
        ConfigError: Hydra's parser does not understand the arguments.
        HydraException: they do not compose.
    """
    options = _parse(arguments)
    name = options.config_name or CONFIG_NAME
    with _hydra(options) as hydra:
        jobs = _jobs(hydra, options) if options.multirun else [options.overrides]
        labels = [f"{name} {' '.join(job)}" for job in jobs] if len(jobs) > 1 else [name]
        return [(label, _job(hydra, name, job)) for label, job in zip(labels, jobs, strict=True)]


def _parse(arguments: list[str]) -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"Hydra does not understand this command line: {message}.")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(arguments)


@contextmanager
def _hydra(options: argparse.Namespace) -> Iterator[Any]:
    """Hydra as ``hydra.main`` sets it up for verl's entry point and these flags."""
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_automatic_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    version.setbase(None)
    entry = find_spec(ENTRY)
    assert entry is not None
    path = create_automatic_config_search_path(entry.origin, None, options.config_path or CONFIG_PATH)
    if options.config_dir is not None:
        folder = os.path.abspath(options.config_dir)
        if not os.path.isdir(folder):
            raise ConfigError(f"--config-dir {options.config_dir}: there is no such folder.")
        path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(task_name="main_ppo", config_search_path=path)
    finally:
        GlobalHydra.instance().clear()


def _jobs(hydra: Any, options: argparse.Namespace) -> list[list[str]]:
    """The overrides of each job of ``--multirun``, as Hydra's basic sweeper cuts them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(options.overrides)
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def _job(hydra: Any, name: str, overrides: list[str]) -> Any:
    """What the task function receives; ``${hydra:...}`` resolves in it as it does there."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf, flag_override, open_dict, read_write

    config = hydra.compose_config(
        config_name=name, overrides=overrides, run_mode=RunMode.RUN, with_log_configuration=False
    )
    HydraConfig.instance().set_config(config)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = os.path.abspath(str(OmegaConf.select(config, "hydra.run.dir")))
    HydraConfig.instance().set_config(config)
    with flag_override(config, ["struct", "readonly"], [False, False]):
        del config["hydra"]
    return config
