"""Weights over TCP: bytes, order, several receivers, and what happens when nobody comes."""

import asyncio

import pytest
import torch

from entropo_plugin.hosts.verl.cpu import weights
from entropo_plugin.hosts.verl.cpu.weights import TcpCheckpointEngine, packed, unpacked

WEIGHTS = {
    "embed": torch.arange(6, dtype=torch.float32).view(2, 3),
    "norm": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "transposed": torch.arange(6, dtype=torch.float64).view(2, 3).T,
    "scalar": torch.tensor(3.0),
}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(weights.ray.util, "get_node_ip_address", lambda: "127.0.0.1")


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_arrives_bit_for_bit(name):
    arrived, weight = unpacked(*packed(name, WEIGHTS[name]))
    assert arrived == name and weight.dtype == WEIGHTS[name].dtype and torch.equal(weight, WEIGHTS[name])


def connected(actors, rollouts, **settings):
    senders = [TcpCheckpointEngine(1 << 20, is_master=rank == 0, **settings) for rank in range(actors)]
    receivers = [TcpCheckpointEngine(1 << 20, **settings) for _ in range(rollouts)]
    metadata = [engine.prepare() for engine in senders + receivers]
    for engines, kwargs in zip(
        (senders, receivers), TcpCheckpointEngine.build_topology(actors, rollouts, metadata), strict=True
    ):
        for rank, engine in enumerate(engines):
            engine.init_process_group(**{name: values[rank] for name, values in kwargs.items()})
    return senders, receivers


async def transfer(senders, receivers):
    async def take(engine):
        return [pair async for pair in engine.receive_weights()]

    gathered = [list(WEIGHTS.items()) for _ in senders]
    sending = [engine.send_weights(iter(mine)) for engine, mine in zip(senders, gathered, strict=True)]
    found = await asyncio.gather(*sending, *map(take, receivers))
    return found[len(senders) :]


def test_two_ranks_to_two_rollout_workers_twice():
    for _ in range(2):  # a transfer leaves nothing behind that the next one trips over
        senders, receivers = connected(2, 2)
        for got in asyncio.run(transfer(senders, receivers)):
            assert [name for name, _ in got] == list(WEIGHTS)
            assert all(torch.equal(weight, WEIGHTS[name]) for name, weight in got)
        for engine in senders + receivers:
            engine.finalize()


def test_a_receiver_that_never_comes_ends_in_an_error():
    engine = TcpCheckpointEngine(1 << 20, is_master=True, patience=0.2)
    engine.prepare()
    engine.init_process_group(receivers=1)
    with pytest.raises(TimeoutError, match=r"entropo_tcp: no word from the other side in 0 s"):
        asyncio.run(engine.send_weights(iter([])))
    engine.finalize()
