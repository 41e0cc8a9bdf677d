"""Entry point ``vllm.general_plugins``: lets verl update the weights of a vLLM server on the CPU."""

from __future__ import annotations

import os


def register() -> None:
    """Keep vLLM's linear layers on their live weights.

    vLLM's CPU backend packs linear weights with oneDNN after loading and drops ``layer.weight``
    (vllm/model_executor/layers/utils.py:316), so that verl's ``model.load_weights`` (vllm_rollout/utils.py:405) fails
    at the first weight sync, and a layer that keeps its weight would go on computing with the stale packed copy.
    Acts only in verl's own vLLM processes (``VERL_REPLICA_RANK``), when asked for and on vLLM's CPU platform.
    """
    if os.environ.get("ENTROPO_CPU") != "1" or "VERL_REPLICA_RANK" not in os.environ:
        return
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        import vllm._custom_ops as ops

        ops._supports_onednn = False
        os.environ["VLLM_CPU_SGL_KERNEL"] = "0"
