"""A checkpoint engine that sends weights over TCP, so that ``separate_async`` trains without a GPU.

verl's own engines move weights by NCCL, HCCL, NIXL or Mooncake. verl imports this one where a recipe names it
(``checkpoint_engine.custom_backend_module``); nothing else does. A weight travels as a line of JSON and its bytes.

The sender's secret token reaches the receivers with verl's metadata, by Ray. Who does not know it gets nothing; the
transfer has succeeded when every receiver has said that it has all weights. Nothing is encrypted.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import os
import secrets
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import ray
import torch
import zmq
from verl.checkpoint_engine import CheckpointEngine, CheckpointEngineRegistry

BACKEND = "entropo_tcp"
PATIENCE = 120.0
# Largest weight, in bytes; an embedding of 256k tokens and width 16k has as many in fp32.
MOST = 1 << 34
# Messages that wait for a slow receiver: weights are large, and each of them is a copy.
WAITING = 4
HELLO, DONE = b"hello", b"done"


@CheckpointEngineRegistry.register(BACKEND)
class TcpCheckpointEngine(CheckpointEngine):
    """Rank 0 of the trainer sends every weight to every rollout worker.

    Args:
        bucket_size: taken for verl's sake; weights are sent one at a time.
        is_master: whether this is the trainer's rank 0.
        patience: seconds to wait for the other side's next word, and for its taking the next of ours.
        most: size of the largest weight, in bytes.
    """

    def __init__(self, bucket_size: int, is_master: bool = False, patience: float = PATIENCE, most: int = MOST):
        self.is_master, self.patience, self.most = is_master, patience, most
        self.socket: zmq.Socket | None = None
        self.token, self.receivers, self.index = b"", 0, 0
        self._network: str | None = None

    def prepare(self) -> dict[str, Any]:
        """Where this engine runs; the sender also opens its ports and makes this transfer's token."""
        self.finalize()
        if not self.is_master:
            return {"node": node()}
        self.token = secrets.token_hex(16).encode()
        # a receiver says little; who says more is cut off
        self.socket = _socket(zmq.ROUTER, largest=1000)
        # a receiver that is not there is an error, not a message that is dropped
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        local, self._network = _bind(self.socket, "127.0.0.1"), _bind(self.socket, ray.util.get_node_ip_address())
        return {"node": node(), "local": local, "address": self._network, "token": self.token.decode()}

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[dict[str, Any]]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """The sender learns how many receivers there are and whether all are on its node; they learn its address."""
        sender, receivers = metadata[0], metadata[actor_wg_world_size:]
        near = [receiver.get("node") == sender["node"] for receiver in receivers]
        senders: dict[str, list[Any]] = {"receivers": [0] * actor_wg_world_size, "local": [True] * actor_wg_world_size}
        senders["receivers"][0], senders["local"][0] = rollout_world_size, all(near)
        return senders, {
            "address": [sender["local"] if is_near else sender["address"] for is_near in near],
            "token": [sender["token"]] * rollout_world_size,
            "index": list(range(rollout_world_size)),
        }

    def init_process_group(
        self,
        receivers: int = 0,
        local: bool = False,
        address: str | None = None,
        token: str = "",
        index: int = 0,
        **_: Any,
    ) -> None:
        """Receivers say hello; the sender leaves the network where nobody is to come from there."""
        self.receivers = receivers
        if self.is_master and local and self._network is not None:
            assert self.socket is not None
            self.socket.unbind(self._network)
            self._network = None
        if address is not None:
            self.token, self.index = token.encode(), index
            self.socket = _socket(zmq.DEALER, largest=self.most)
            self.socket.setsockopt(zmq.IPV6, int("[" in address))
            self.socket.connect(address)
            self.socket.send_multipart(self._word(HELLO))

    def finalize(self) -> None:
        """Close the connection of this transfer; what has not been fetched by now has failed already."""
        if self.socket is not None:
            self.socket.close(linger=0)
            self.socket = None

    async def send_weights(
        self, weights: Generator[tuple[str, torch.Tensor], None, None], global_steps: int | None = None
    ) -> None:
        """Send all weights. Every rank of the trainer calls this, because gathering a shard takes all of them.

        Raises:
            TimeoutError: a rollout worker did not come, take a weight, or say that it has all, in time.
            ConnectionError: a rollout worker has disconnected.
            ValueError: a weight is too large.
        """
        try:
            if self.receivers:
                await self._send_all(weights)
        finally:
            # the other ranks gather with us whatever happens here
            for _ in weights:
                pass

    async def _send_all(self, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        names, count = await self._each(HELLO), 0
        for name, weight in weights:
            parts = packed(name, weight)
            if len(parts[1]) > self.most:
                raise ValueError(f"{BACKEND}: {name} has {len(parts[1])} bytes, more than {self.most}.")
            await self._send(names, *parts)
            count += 1
        await self._send(names, b"", str(count).encode())
        await self._each(DONE)

    async def _each(self, word: bytes) -> list[bytes]:
        """The connections of all receivers, when each has said ``word``; whoever does not know the token is ignored."""
        names: dict[bytes, bytes] = {}
        end = time.monotonic() + self.patience
        while len(names) < self.receivers:
            name, *said = await self._received(end, f"{len(names)} of {self.receivers} rollout workers said {word!r}")
            for index in range(self.receivers):
                if _same(said, [self.token, str(index).encode(), word]):
                    names[said[1]] = name
        return list(names.values())

    async def receive_weights(  # type: ignore[override]  # verl declares a coroutine and iterates asynchronously
        self, global_steps: int | None = None
    ) -> AsyncGenerator[tuple[str, torch.Tensor], None]:
        """Yield name and weight of each until the sender has sent all.

        Raises:
            TimeoutError: the sender fell silent.
            ValueError: what came is not what was sent.
        """
        count = 0
        while (parts := await self._received(time.monotonic() + self.patience, f"{count} weights arrived"))[0]:
            yield unpacked(*parts)
            count += 1
        if parts[1:] != [str(count).encode()]:
            raise ValueError(f"{BACKEND}: {count} weights arrived, not {parts[1:]}: the connection was interrupted.")
        assert self.socket is not None
        self.socket.send_multipart(self._word(DONE))

    def _word(self, word: bytes) -> list[bytes]:
        return [self.token, str(self.index).encode(), word]

    async def _send(self, names: list[bytes], *parts: bytes) -> None:
        assert self.socket is not None
        for name in names:
            end = time.monotonic() + self.patience
            while not _sent(self.socket, [name, *parts]):
                if time.monotonic() > end:
                    raise TimeoutError(
                        f"{BACKEND}: a rollout worker has read nothing for {self.patience:.0f} s; see its log."
                    )
                await asyncio.sleep(0.01)

    async def _received(self, end: float, so_far: str) -> list[bytes]:
        assert self.socket is not None
        while time.monotonic() < end:
            # in short waits: a thread that waits cannot be cancelled
            if await asyncio.to_thread(self.socket.poll, 100):
                return self.socket.recv_multipart()
        raise TimeoutError(
            f"{BACKEND}: no answer from the other side for {self.patience:.0f} s ({so_far}); see its own log."
        )


def node() -> str:
    """What two processes have in common exactly if they reach each other over the loopback interface."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.stat('/proc/self/ns/net').st_ino}"
    except OSError:
        return f"unknown {secrets.token_hex(8)}"


def _socket(kind: int, largest: int) -> zmq.Socket:
    socket: zmq.Socket = zmq.Context.instance().socket(kind)
    for option, value in ((zmq.MAXMSGSIZE, largest), (zmq.SNDHWM, WAITING), (zmq.RCVHWM, WAITING)):
        socket.setsockopt(option, value)
    return socket


def _bind(socket: zmq.Socket, address: str) -> str:
    socket.setsockopt(zmq.IPV6, int(":" in address))
    place = f"tcp://[{address}]" if ":" in address else f"tcp://{address}"
    return f"{place}:{socket.bind_to_random_port(place)}"


def _sent(socket: zmq.Socket, parts: list[bytes]) -> bool:
    try:
        socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        raise ConnectionError(f"{BACKEND}: a rollout worker has disconnected ({error}); see its log.") from error
    return True


def _same(said: list[bytes], wanted: list[bytes]) -> bool:
    return len(said) == len(wanted) and all(map(hmac.compare_digest, said, wanted))


def packed(name: str, weight: torch.Tensor) -> tuple[bytes, bytes]:
    """A line that describes the weight, and its bytes."""
    head = {"name": name, "shape": list(weight.shape), "dtype": str(weight.dtype).removeprefix("torch.")}
    flat = weight.detach().cpu().contiguous().view(-1)
    return json.dumps(head).encode(), flat.view(torch.uint8).numpy().tobytes()


def unpacked(head: bytes, body: bytes = b"") -> tuple[str, torch.Tensor]:
    """The inverse of :func:`packed`.

    Raises:
        ValueError: the two do not belong together.
    """
    about = json.loads(head)
    dtype, shape = getattr(torch, str(about["dtype"]), None), about["shape"]
    if not isinstance(dtype, torch.dtype) or len(body) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{BACKEND}: {len(body)} bytes arrived for {str(about)[:200]}.")
    flat = torch.frombuffer(bytearray(body), dtype=dtype) if body else torch.empty(0, dtype=dtype)
    return about["name"], flat.view(shape)
