"""Every statistic of one rollout batch, under the names that they have under every host."""

from __future__ import annotations

from typing import Any

from entropo_plugin import monitor
from entropo_plugin.monitor import StepTokens


def step_metrics(tokens: StepTokens, args: Any, clip: tuple[float, float, float]) -> dict[str, float]:
    """The statistics of docs/metrics.md that do not have to be known before the controllers move.

    Args:
        args: the ``GRPOConfig``.
        clip: bounds of TRL's own loss.
    """
    clips = args.importance_sampling_level == "token"
    # TRL takes the log-softmax in fp32, of logits in the dtype of its autocast
    report = monitor.precision_report(tokens, "bfloat16" if args.bf16 else None, True, clip[:2] if clips else None)
    return monitor.step_metrics(tokens) | report.metrics
