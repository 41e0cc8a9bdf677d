"""``entropo doctor``: whether everything is in place, one line each: ok, or the problem and what to do."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from entropo_plugin.config import ESTIMATORS, TRAINER_MODES


@dataclass(frozen=True)
class Finding:
    """One line of the examination; without a remedy it is good news."""

    subject: str
    words: str
    remedy: str = ""

    def __str__(self) -> str:
        if not self.remedy:
            return f"ok       {self.subject}: {self.words}"
        return f"PROBLEM  {self.subject}: {self.words}\n         what to do: {self.remedy}"


def examine(options: argparse.Namespace) -> int:
    """Print every finding; 0 only when all is well."""
    warnings.simplefilter("ignore")
    checks: list[Callable[[], Iterator[Finding]]] = [_versions, _process]
    if options.config_name or options.overrides:
        checks.append(functools.partial(_recipe, options))
    checks += [_platform] if options.no_ray else [_platform, _ray_worker]
    problems = 0
    for check in checks:
        for finding in _guarded(check):
            print(finding, flush=True)
            problems += bool(finding.remedy)
    print(f"\n{problems} problem(s) found." if problems else "\nAll is well.")
    return int(problems > 0)


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        words = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'no message'}"
        yield Finding(
            getattr(check, "__name__", "check").strip("_"), words, "mend what the message names, then run again"
        )


def _versions() -> Iterator[Finding]:
    try:
        from entropo_plugin.plugin import unsupported, verl_version
    except ImportError as error:
        yield Finding("verl", f"cannot be imported ({error})", "pip install 'verl>=0.9.1,<0.10'")
        return
    complaint = unsupported()
    yield Finding(
        "verl", complaint or f"{verl_version()} is supported", "install a supported verl" if complaint else ""
    )
    for module, wanted in (("transfer_queue", "pip install TransferQueue"), ("hydra", "pip install hydra-core")):
        found = importlib.util.find_spec(module) is not None
        yield Finding(f"package {module}", "installed" if found else "missing", "" if found else wanted)


def registered() -> dict[str, Any]:
    """What this process knows of us, after importing verl's registries."""
    import verl.trainer.ppo.v1 as v1
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
    from verl.utils.device import get_device_name

    from entropo_plugin.hosts.verl.startup.import_hooks import failures

    return {
        "estimators": [name for name in ESTIMATORS if name in ADV_ESTIMATOR_REGISTRY],
        "trainer modes": [name for name in TRAINER_MODES if name in v1.trainer_base.TRAINER_REGISTRY],
        "failures": dict(failures),
        "platform": get_device_name(),
    }


def _registration(where: str, known: dict[str, Any]) -> Iterator[Finding]:
    remedy = "unset VERL_USE_EXTERNAL_PLUGINS (or set it to auto) and reinstall entropo-plugin there"
    for kind, expected in (("estimators", ESTIMATORS), ("trainer modes", TRAINER_MODES)):
        missing = [name for name in expected if name not in known[kind]]
        words = f"{kind} missing: {', '.join(missing)}" if missing else f"{kind} registered: {', '.join(known[kind])}"
        yield Finding(where, words, remedy if missing else "")
    for name, reason in known["failures"].items():
        yield Finding(where, f"{name} failed: {reason}", "report it with this line, or reinstall entropo-plugin")


def _process() -> Iterator[Finding]:
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
    yield from _registration(f"this process (VERL_USE_EXTERNAL_PLUGINS={policy})", registered())


def _platform() -> Iterator[Finding]:
    import torch
    from verl.utils.device import get_device_name

    from entropo_plugin.hosts.verl import cpu

    name = get_device_name()
    if name == "cuda" and not torch.cuda.is_available():
        yield Finding(
            "device platform",
            'no accelerator found, verl falls back to "cuda"',
            "nothing if this is the head node of a GPU cluster; to train on the CPU set ENTROPO_CPU=1 or use "
            "+entropo_host=cpu",
        )
    else:
        yield Finding("device platform", f"{name}{' (our CPU host)' if cpu.active() else ''}")


def _ray_worker() -> Iterator[Finding]:
    import ray

    mine = not ray.is_initialized()
    if mine:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        known = ray.get(ray.remote(registered).remote(), timeout=120)
        yield from _registration("Ray worker", known)
        yield Finding("Ray worker", f"device platform {known['platform']}")
    finally:
        if mine:
            ray.shutdown()


def compose(name: str, overrides: list[str], folder: str | None = None) -> Any:
    """A whole verl configuration as its command line would compose it."""
    import hydra

    where = [f"hydra.searchpath=[file://{os.path.abspath(folder)}]"] if folder else []
    with hydra.initialize_config_module("verl.trainer.config", version_base=None):
        return hydra.compose(name, [*where, *overrides])


def _recipe(options: argparse.Namespace) -> Iterator[Finding]:
    import contextlib
    import io

    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    name = options.config_name or "ppo_trainer"
    config = compose(name, options.overrides, options.config_dir)
    with contextlib.redirect_stdout(io.StringIO()):
        validate_config(config, need_reference_policy(config), need_critic(config))
    mode = config.trainer.v1.trainer_mode
    yield Finding(f"recipe {name}", f"valid: estimator {config.algorithm.adv_estimator}, trainer {mode}")
