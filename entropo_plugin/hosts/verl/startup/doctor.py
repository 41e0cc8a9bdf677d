"""``entropo doctor``: whether everything is in place, one line each: ok, a note, or the problem and what to do."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import inspect
import io
import warnings
from collections.abc import Iterator
from typing import Any

from entropo_plugin.hosts.verl.startup.composition import compose, compose_command
from entropo_plugin.hosts.verl.startup.finding import FIX, Check, Finding, guarded, whole
from entropo_plugin.hosts.verl.startup.processes import fresh_process, ray_worker
from entropo_plugin.hosts.verl.startup.redaction import redact
from entropo_plugin.recipe_files import MULTIPLE, composition, misplaced

__all__ = ["Finding", "compose", "examine"]


def examine(options: argparse.Namespace) -> int:
    """Print every finding; 1 when one of them is a problem.

    Args:
        options: ``arguments`` as for ``python -m verl.trainer.main_ppo``; ``no_ray`` leaves the Ray worker out.
    """
    warnings.simplefilter("ignore")
    checks: list[tuple[str, Check]] = [("versions", _versions), ("a process that imports verl", fresh_process)]
    if options.arguments:
        checks.append(("recipe", functools.partial(_recipe, options.arguments)))
    checks.append(("device platform", _platform))
    if not options.no_ray:
        checks.append(("Ray worker", ray_worker))
    problems = 0
    for name, check in checks:
        for finding in guarded(name, check):
            print(redact(str(finding), options.arguments), flush=True)
            problems += bool(finding.remedy)
    print(f"\n{problems} problem(s)." if problems else "\nAll is well.")
    return int(problems > 0)


def _versions() -> Iterator[Finding]:
    try:
        import verl  # noqa: F401
    except ImportError as error:
        yield Finding("verl", f"cannot be imported: {whole(error)}", "pip install 'verl>=0.9.1,<0.10'")
        return
    from entropo_plugin.plugin import unsupported, verl_version

    complaint = unsupported()
    yield Finding(
        "verl", complaint or f"{verl_version()} is supported", "install a supported verl" if complaint else ""
    )
    for module, wanted in (("transfer_queue", "pip install TransferQueue"), ("hydra", "pip install hydra-core")):
        there = importlib.util.find_spec(module) is not None
        yield Finding(f"package {module}", "installed" if there else "missing", "" if there else wanted)


def _platform() -> Iterator[Finding]:
    import torch
    from verl.utils.device import get_device_name

    from entropo_plugin.hosts.verl import cpu

    name = get_device_name()
    if name == "cuda" and not torch.cuda.is_available():
        words = (
            'no accelerator here, verl falls back to "cuda". Right on the head node of a GPU cluster; to train on the '
            "CPU set ENTROPO_CPU=1 or use +entropo_host=cpu"
        )
        yield Finding("device platform", words, note=True)
    else:
        yield Finding("device platform", f"{name}{' (our CPU host)' if cpu.active() else ''}")


def _recipe(arguments: list[str]) -> Iterator[Finding]:
    """Every job of these arguments: what we say of its configuration, then what verl says; neither hides the other."""
    import entropo_plugin.plugin  # noqa: F401  the checks need what it registers, whatever verl's switch says

    if advice := misplaced(arguments):
        yield Finding("recipe", advice, FIX)
        return
    try:
        jobs = compose_command(arguments)
    except Exception as error:
        yield Finding("recipe", whole(error), (MULTIPLE in str(error) and composition(arguments)) or FIX)
        return
    for name, config in jobs:
        for check in (_ours, _verls):
            for finding in guarded(f"recipe {name}", functools.partial(check, f"recipe {name}", config)):
                yield Finding(finding.subject, redact(finding.words, config), finding.remedy, finding.note)


def _ours(subject: str, config: Any) -> Iterator[Finding]:
    """Our own start-up check, as ``validate_config`` runs it first."""
    from verl.utils.device import auto_set_device

    from entropo_plugin.hosts.verl.startup.guard import prepare

    with contextlib.redirect_stdout(io.StringIO()):
        auto_set_device(config)
        plan = prepare(config)
    if plan is None:
        yield Finding(subject, "nothing of ours is asked for; add +entropo=NAME", note=True)
        return
    yield Finding(subject, plan.in_words())
    for sentence in plan.warnings(config):
        yield Finding(subject, sentence, note=True)


def _verls(subject: str, config: Any) -> Iterator[Finding]:
    """verl's own check; the original, because ours has been asked already."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    with contextlib.redirect_stdout(io.StringIO()):
        inspect.unwrap(validate_config)(config, need_reference_policy(config), need_critic(config))
    mode = config.trainer.v1.trainer_mode
    yield Finding(subject, f"valid: estimator {config.algorithm.adv_estimator}, trainer {mode}")
