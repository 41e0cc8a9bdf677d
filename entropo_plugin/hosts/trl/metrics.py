"""Every statistic of one rollout batch, under the names that they have under every host."""

from __future__ import annotations

from typing import Any

from entropo_plugin import monitor
from entropo_plugin.monitor import StepTokens


def step_metrics(tokens: StepTokens, args: Any, clip: dict[str, Any] | None) -> dict[str, float]:
    """The statistics of docs/metrics.md that do not have to be known before the controllers move.

    Args:
        args: the ``GRPOConfig``.
        clip: ``low`` and ``high`` of the loss in force; None where it cuts no token by its own ratio.
    """
    bounds = None if clip is None else (clip["low"], clip["high"])
    # TRL takes the log-softmax in fp32, of logits in the dtype of its autocast
    report = monitor.precision_report(tokens, "bfloat16" if args.bf16 else None, True, bounds)
    return monitor.step_metrics(tokens) | report.metrics
