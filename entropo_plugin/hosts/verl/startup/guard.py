"""Checks a run's configuration on the driver, before a Ray cluster is up.

verl's entry point calls ``verl.utils.config.validate_config`` first; it is wrapped, because verl has no hook there.
Those of one-step-off and fully-async training call it in a Ray worker or never, but both start through ``run_ppo``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from entropo_plugin.fields import ConfigError

MARK = "_entropo_checks"
OTHER_TRAINERS = {"OneStepTaskRunner": "one_step_off_policy", "FullyAsyncTaskRunner": "fully_async_policy"}


def install() -> None:
    """Wrap ``validate_config`` once in this process."""
    import verl.utils.config as module

    original = module.validate_config
    if getattr(original, MARK, False):
        return

    @functools.wraps(original)
    def validate_config(config: Any, *args: Any, **kwargs: Any) -> Any:
        with in_one_message(config):
            check_start(config)
        return original(config, *args, **kwargs)

    setattr(validate_config, MARK, True)
    module.validate_config = validate_config


def guard_entry(main_ppo: ModuleType) -> None:
    """Wrap ``run_ppo``, which other entry points import from ``verl.trainer.main_ppo``, once in this process."""
    original = main_ppo.run_ppo
    if getattr(original, MARK, False):
        return

    @functools.wraps(original)
    def run_ppo(config: Any, task_runner_class: Any, *args: Any, **kwargs: Any) -> Any:
        with in_one_message(config):
            check_runner(config, task_runner_class)
        return original(config, task_runner_class, *args, **kwargs)

    setattr(run_ppo, MARK, True)
    main_ppo.run_ppo = run_ppo  # type: ignore[attr-defined]


@contextmanager
def in_one_message(config: Any) -> Iterator[None]:
    """A ConfigError inside leaves as one that Hydra prints without a traceback, and that shows no secret."""
    from entropo_plugin.hosts.verl.startup.redaction import redact

    try:
        yield
    except ConfigError as error:
        from entropo_plugin.hosts.verl.startup.refusal import Refusal

        raise Refusal(f"entropo: {redact(str(error), config)}") from None


def check_runner(config: Any, task_runner_class: Any) -> None:
    """Refuse verl's experimental trainers, which our trainer modes do not extend.

    Raises:
        ConfigError: names the entry point and the one to use.
    """
    from entropo_plugin.hosts.verl.startup import plan

    about = getattr(task_runner_class, "__ray_metadata__", None)
    trainer = OTHER_TRAINERS.get(getattr(about, "class_name", "").rsplit(".", 1)[-1])
    if trainer and plan.concerns(config):
        raise plan.ConfigError(
            f"verl.experimental.{trainer} has a trainer of its own, in which entropo_plugin cannot act. Start "
            "verl.trainer.main_ppo with trainer.v1.trainer_mode=entropo_separate_async (or entropo_colocate_async), "
            "or take entropo out of this run."
        )


def check_start(config: Any) -> None:
    """Refuse what cannot work, in one sentence; switch to the CPU host if the recipe asks for it.

    Raises:
        ConfigError: names the key, its value, what is allowed and what to change.
    """
    from entropo_plugin.hosts.verl.resume import resume_warnings
    from entropo_plugin.hosts.verl.startup.import_hooks import logger
    from entropo_plugin.hosts.verl.startup.redaction import redact

    chosen = prepare(config)
    if chosen is None:
        return
    logger.info("%s", redact(chosen.in_words(), config))
    for sentence in [*chosen.warnings(config), *resume_warnings(config)]:
        logger.warning("entropo_plugin: %s", redact(sentence, config))


def prepare(config: Any) -> Any:
    """As :func:`check_start`, without its warnings; the plan of the run, or None when it uses nothing of ours."""
    from entropo_plugin.hosts.verl import cpu
    from entropo_plugin.hosts.verl.metrics.token_log import check_token_file
    from entropo_plugin.hosts.verl.startup import import_hooks as hooks
    from entropo_plugin.hosts.verl.startup import plan
    from entropo_plugin.hosts.verl.startup.registration import import_late
    from entropo_plugin.hosts.verl.startup.spelling import check_spelling

    check_spelling(config)
    if not plan.concerns(config):
        return None
    _check_installation(hooks.failures)
    chosen = plan.Plan.from_config(config)
    check_token_file(config, chosen.settings.monitor)
    import_late()
    _check_installation(hooks.failures)
    preview_resume(config, chosen)
    if chosen.settings.host == "cpu":
        cpu.activate_late()
        config.trainer.device = "cpu"
    return chosen


def preview_resume(config: Any, chosen: Any) -> None:
    """Refuse a saved state that does not fit while nothing runs yet, where the driver can see the checkpoint."""
    from entropo_plugin.hosts.verl.checkpoint import NAME, restore, resumed_folder
    from entropo_plugin.run import Run

    folder = resumed_folder(config)
    if folder and os.path.exists(os.path.join(folder, NAME)):
        restore(Run(chosen.methods, chosen.settings), folder)


def _check_installation(failures: dict[str, str]) -> None:
    from entropo_plugin.plugin import unsupported

    complaint = unsupported()
    if complaint:
        raise ConfigError(complaint)
    if failures:
        name, reason = next(iter(failures.items()))
        raise ConfigError(f"entropo_plugin did not register completely: {name} ({reason}). Run `entropo doctor`.")
