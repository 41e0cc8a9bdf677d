"""The CPU as a verl platform, through verl's own ``PlatformRegistry``.

Needed because ``verl/plugin/platform/platform_manager.py:114`` falls back to "nvidia" when it finds no accelerator.
"""

from __future__ import annotations

import types
from contextlib import contextmanager
from typing import Any

import psutil
import torch


def _resident(*_: Any) -> int:
    return psutil.Process().memory_info().rss


def _memory(*_: Any) -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _nothing(*_: Any, **__: Any) -> None:
    return None


class _DeviceModule(types.ModuleType):
    """What verl asks of ``torch.<device>``; anything else is looked up in ``torch.cpu``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


def device_module() -> types.ModuleType:
    """A stand-in for ``torch.cuda``: memory is the process's, streams and caches do not exist."""
    module = _DeviceModule("entropo_plugin.hosts.verl.cpu.device")
    members: dict[str, Any] = {
        "is_available": lambda: False,
        "is_initialized": lambda: True,
        "current_device": lambda: torch.device("cpu"),
        "device_count": lambda: 1,
        "get_device_name": lambda *_: "CPU",
        "get_device_properties": lambda *_: types.SimpleNamespace(name="CPU", total_memory=_memory()[1]),
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "mem_get_info": _memory,
    }
    members |= dict.fromkeys(("set_device", "synchronize", "empty_cache", "ipc_collect"), _nothing)
    members |= dict.fromkeys(("manual_seed", "manual_seed_all", "reset_peak_memory_stats"), _nothing)
    memory = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved")
    members |= dict.fromkeys(memory, _resident)
    module.__dict__.update(members)
    return module


def create() -> Any:
    """An instance of the registered platform."""
    from verl.plugin.platform import PlatformRegistry

    platform = PlatformRegistry.get("cpu")
    assert platform is not None, "register() comes first"
    return platform()


def register() -> None:
    """Register platform ``cpu``; verl detects it by itself when no accelerator answers."""
    from verl.plugin.platform import PlatformBase, PlatformRegistry

    @PlatformRegistry.register(platform="cpu")
    class PlatformCPU(PlatformBase):  # type: ignore[misc, unused-ignore]
        device_name = "cpu"
        vendor_name = "cpu"
        device_module = device_module()

        def is_available(self) -> bool:
            return True

        def is_platform_available(self, use_smi_check: bool = False) -> bool:
            return True

        def current_device(self) -> Any:
            # verl hands it to Tensor.to() and to FSDP as device_id, where an index would mean an accelerator
            return torch.device("cpu")

        def device_count(self) -> int:
            return 1

        def manual_seed(self, seed: int) -> None:
            torch.manual_seed(seed)

        manual_seed_all = manual_seed

        def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
            return None, None

        def communication_backend_name(self) -> str:
            return "gloo"

        def visible_devices_envvar(self) -> str:
            return "CUDA_VISIBLE_DEVICES"

        @contextmanager
        def nvtx_range(self, msg: str) -> Any:
            yield

        def ray_resource_name(self) -> str:
            # single_controller/ray/base.py:226 counts GPU and NPU only; Ray grants logical GPUs without hardware
            return "GPU"

        def ray_noset_envvars(self) -> list[str]:
            return []

        def is_ipc_supported(self) -> bool:
            # sends the weights to vLLM through shared memory (vllm_rollout.py:143)
            return False

        def rollout_env_vars(self) -> dict[str, str]:
            return {}

        set_device = synchronize = set_allocator_settings = empty_cache = _nothing
        profiler_start = profiler_stop = cudart = _nothing
