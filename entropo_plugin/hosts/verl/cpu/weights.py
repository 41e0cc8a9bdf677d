"""A checkpoint engine that sends weights over TCP, so that ``separate_async`` trains without a GPU.

verl's own engines move weights by NCCL, HCCL, NIXL or Mooncake. verl imports this one where a recipe names it
(``checkpoint_engine.custom_backend_module``); nothing else does. A weight travels as a line of JSON and its bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from typing import Any

import ray
import torch
import zmq
from verl.checkpoint_engine import CheckpointEngine, CheckpointEngineRegistry

BACKEND = "entropo_tcp"
PATIENCE = 120.0


@CheckpointEngineRegistry.register(BACKEND)
class TcpCheckpointEngine(CheckpointEngine):
    """Rank 0 of the trainer sends every weight to every rollout worker.

    Args:
        bucket_size: taken for verl's sake; weights are sent one at a time.
        is_master: whether this is the trainer's rank 0.
        patience: seconds to wait for the other side.
    """

    def __init__(self, bucket_size: int, is_master: bool = False, patience: float = PATIENCE):
        self.is_master, self.patience = is_master, patience
        self.socket: zmq.Socket | None = None
        self.receivers = 0

    def prepare(self) -> dict[str, Any]:
        """Open the sender's port; its address is all that the others need."""
        if not self.is_master:
            return {}
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        # a receiver that is not there is an error, not a message that is dropped
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        address = ray.util.get_node_ip_address()
        return {"address": f"tcp://{address}:{self.socket.bind_to_random_port(f'tcp://{address}')}"}

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[dict[str, Any]]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """The sender learns how many receivers to wait for, each receiver the sender's address."""
        senders = {"receivers": [rollout_world_size] + [0] * (actor_wg_world_size - 1)}
        return senders, {"address": [metadata[0]["address"]] * rollout_world_size}

    def init_process_group(self, receivers: int = 0, address: str | None = None, **_: Any) -> None:
        """Receivers say hello; the sender learns their names when it sends."""
        self.receivers = receivers
        if address is not None:
            self.socket = zmq.Context.instance().socket(zmq.DEALER)
            self.socket.connect(address)
            self.socket.send(b"hello")

    def finalize(self) -> None:
        """Close the connection of this transfer."""
        if self.socket is not None:
            self.socket.close(linger=int(self.patience * 1000))
            self.socket = None

    async def send_weights(
        self, weights: Generator[tuple[str, torch.Tensor], None, None], global_steps: int | None = None
    ) -> None:
        """Send all weights. Every rank of the trainer calls this, because gathering a shard takes all of them.

        Raises:
            TimeoutError: a rollout worker did not come in time.
        """
        names = [(await self._received())[0] for _ in range(self.receivers)]
        for name, weight in weights:
            if names:
                self._send(names, *packed(name, weight))
        self._send(names, b"")

    async def receive_weights(  # type: ignore[override]  # verl declares a coroutine and iterates asynchronously
        self, global_steps: int | None = None
    ) -> AsyncGenerator[tuple[str, torch.Tensor], None]:
        """Yield name and weight of each until the sender has sent all.

        Raises:
            TimeoutError: the sender fell silent.
        """
        while (parts := await self._received())[0]:
            yield unpacked(*parts)

    def _send(self, names: list[bytes], *parts: bytes) -> None:
        for name in names:
            assert self.socket is not None
            self.socket.send_multipart([name, *parts])

    async def _received(self) -> list[bytes]:
        assert self.socket is not None
        waited = await asyncio.to_thread(self.socket.poll, int(self.patience * 1000))
        if not waited:
            raise TimeoutError(f"{BACKEND}: no word from the other side in {self.patience:.0f} s; see its own log.")
        return self.socket.recv_multipart()


def packed(name: str, weight: torch.Tensor) -> tuple[bytes, bytes]:
    """A line that describes the weight, and its bytes."""
    head = {"name": name, "shape": list(weight.shape), "dtype": str(weight.dtype).removeprefix("torch.")}
    flat = weight.detach().cpu().contiguous().view(-1)
    return json.dumps(head).encode(), flat.view(torch.uint8).numpy().tobytes()


def unpacked(head: bytes, body: bytes) -> tuple[str, torch.Tensor]:
    """The inverse of :func:`packed`."""
    about = json.loads(head)
    flat = torch.frombuffer(bytearray(body), dtype=getattr(torch, about["dtype"]))
    return about["name"], flat.view(about["shape"])
