"""Which TRL this works with, and what of it we lean on."""

from __future__ import annotations

import inspect
import re

import trl

from entropo_plugin.fields import ConfigError

SUPPORTED = ((1, 16), (1, 17))
# Methods of GRPOTrainer that we override or call, and the arguments that we pass or read.
METHODS = {
    "_generate_and_score_completions": ("inputs",),
    "_get_per_token_logps_and_entropies": (
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
    ),
    "_calculate_rewards": ("inputs", "prompts", "completions", "completion_ids_list"),
    "_compute_loss": ("model", "inputs"),
    "_save_checkpoint": ("model", "trial"),
    "_load_optimizer_and_scheduler": ("checkpoint",),
    "_get_output_dir": ("trial",),
    "log": ("logs", "start_time"),
}


def check_host(trainer: type) -> None:
    """Refuse a TRL that was not tested, and one that another package has rewritten.

    Raises:
        ConfigError: names the version or the class, and what to install or change.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", trl.__version__)[:2])
    if not SUPPORTED[0] <= version < SUPPORTED[1]:
        raise ConfigError(
            f"trl=={trl.__version__}: entropo_plugin works with TRL {_text(SUPPORTED[0])} up to, but not including, "
            f'{_text(SUPPORTED[1])}. Run: pip install "trl>={_text(SUPPORTED[0])},<{_text(SUPPORTED[1])}"'
        )
    for cls in trainer.__mro__:
        if "unsloth" in f"{cls.__module__}.{cls.__qualname__}".lower():
            raise ConfigError(
                f"{cls.__module__}.{cls.__qualname__}: unsloth has rewritten TRL's trainer, whose loss then does not "
                "call what entropo_plugin overrides. Do not import unsloth in this script."
            )


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def missing(trainer: type) -> list[str]:
    """What of :data:`METHODS` a trainer lacks, one sentence each."""
    sentences = []
    for name, arguments in METHODS.items():
        method = getattr(trainer, name, None)
        if method is None:
            sentences.append(f"{trainer.__name__}.{name} is gone, which hosts/trl overrides or calls.")
            continue
        own = inspect.signature(method).parameters
        gone = [argument for argument in arguments if argument not in own]
        if gone:
            sentences.append(f"{trainer.__name__}.{name} has no argument {', '.join(gone)} any more.")
    return sentences
