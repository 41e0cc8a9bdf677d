"""Weights over TCP: bytes, order, several receivers, and what happens when nobody comes."""

import asyncio
import socket
import threading
import time

import pytest
import torch
import zmq

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
    with pytest.raises(TimeoutError, match=r"entropo_tcp: no answer from the other side for 0 s"):
        asyncio.run(engine.send_weights(iter([])))
    engine.finalize()


@pytest.fixture
def one():
    """A sender and one receiver that has said hello, with little patience."""
    (sender,), (receiver,) = connected(1, 1, patience=0.5)
    yield sender, receiver
    sender.finalize()
    receiver.finalize()


def large(count, size=1 << 22):
    return ((f"layer {number}", torch.zeros(size, dtype=torch.uint8)) for number in range(count))


@pytest.mark.parametrize("count", [1, 100])
def test_a_receiver_that_never_reads_does_not_block_the_sender(one, count):
    """Few weights find room on the way; the sender has not succeeded before all have arrived."""
    sender, _ = one
    left = large(count)
    with pytest.raises(TimeoutError, match="has read nothing for 0 s|no answer .*0 of 1 rollout workers said"):
        asyncio.run(sender.send_weights(left))
    assert next(left, None) is None  # the other ranks have gathered every weight with this one


def test_a_receiver_that_stops_in_the_middle_is_no_success(one):
    sender, receiver = one

    async def some():
        async for _ in receiver.receive_weights():
            return

    async def both():
        return await asyncio.gather(sender.send_weights(large(3)), some(), return_exceptions=True)

    assert isinstance(asyncio.run(both())[0], TimeoutError)


def test_a_sender_that_falls_silent_ends_in_an_error(one):
    _, receiver = one

    async def take():
        return [name async for name, _ in receiver.receive_weights()]

    with pytest.raises(TimeoutError, match=r"no answer from the other side for 0 s \(0 weights arrived\)"):
        asyncio.run(take())


def stray(address, *words):
    """A client that found the port."""
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(address)
    for word in words:
        socket.send_multipart(word)
    return socket


STRAYS = {
    "one word": [[b"hello"]],
    "the right form": [[b"0" * 32, b"0", b"hello"]],
    "empty": [[b""], [b"", b"", b""]],
    "too large": [[b"x" * 100_000]],
}


@pytest.mark.parametrize("words", STRAYS.values(), ids=STRAYS)
def test_a_stray_client_gets_no_weight_and_is_no_success(words):
    (sender,), _ = connected(1, 0, patience=0.5)
    metadata = sender.prepare()
    sender.init_process_group(receivers=1, local=True)
    client = stray(metadata["local"], *words)
    with pytest.raises(TimeoutError, match="0 of 1 rollout workers said b'hello'"):
        asyncio.run(sender.send_weights(iter(WEIGHTS.items())))
    assert not client.poll(0)
    client.close(linger=0)
    sender.finalize()


def test_strays_that_talk_all_the_time_do_not_hold_up_the_transfer():
    senders, receivers = connected(1, 1)
    address = receivers[0].socket.getsockopt_string(zmq.LAST_ENDPOINT)
    words = [[b"hello"]] * 4
    clients = [stray(address, *words) for _ in range(20)]
    raw = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
    raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    (got,) = asyncio.run(transfer(senders, receivers))
    assert [name for name, _ in got] == list(WEIGHTS) and not any(client.poll(0) for client in clients)
    for client in clients:
        client.close(linger=0)
    raw.close()
    for engine in senders + receivers:
        engine.finalize()


def test_a_stray_that_talks_for_ever_does_not_stretch_the_patience():
    (sender,), _ = connected(1, 0, patience=0.5)
    metadata = sender.prepare()
    sender.init_process_group(receivers=1, local=True)
    client, ended = stray(metadata["local"]), threading.Event()

    def talk():
        while not ended.is_set():
            try:
                client.send(b"hello", zmq.NOBLOCK)
            except zmq.Again:
                time.sleep(0.001)

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(sender.send_weights(iter([])), 60))
    finally:
        ended.set()
        talking.join()
        client.close(linger=0)
        sender.finalize()


def test_one_receiver_twice_is_not_two():
    (sender,), (first, second) = connected(1, 2, patience=0.5)
    second.finalize()
    second.token, second.index = first.token, first.index
    metadata = sender.prepare()
    kwargs = {"address": metadata["local"], "token": metadata["token"], "index": 0}
    sender.init_process_group(receivers=2, local=True)
    for engine in (first, second):
        engine.finalize()
        engine.init_process_group(**kwargs)
    with pytest.raises(TimeoutError, match="[01] of 2 rollout workers said b'hello'"):
        asyncio.run(sender.send_weights(iter(WEIGHTS.items())))
    for engine in (sender, first, second):
        engine.finalize()


def test_a_weight_beyond_the_limit_is_refused_by_name():
    (sender,), (receiver,) = connected(1, 1, most=1000)
    with pytest.raises(ValueError, match="layer 0 has 2000 bytes, more than 1000"):
        asyncio.run(sender.send_weights(large(1, 2000)))
    sender.finalize()
    receiver.finalize()


@pytest.mark.parametrize(
    "parts",
    [
        (b'{"name": "w", "shape": [2], "dtype": "float32"}', b"1234"),
        (b'{"name": "w", "shape": [1], "dtype": "load"}', b"1234"),
        (b'{"name": "w", "shape": [1], "dtype": "float32"}',),
    ],
)
def test_a_head_and_a_body_that_do_not_belong_together_are_refused(parts):
    with pytest.raises(ValueError, match="entropo_tcp: . bytes arrived for"):
        unpacked(*parts)


def test_every_transfer_has_a_token_of_its_own():
    engine = TcpCheckpointEngine(1 << 20, is_master=True)
    tokens = {engine.prepare()["token"] for _ in range(3)}
    engine.finalize()
    assert len(tokens) == 3 and all(len(token) == 32 for token in tokens)


def test_an_empty_model_is_sent_too():
    (sender,), (receiver,) = connected(1, 1)

    async def take():
        return [pair async for pair in receiver.receive_weights()]

    async def both():
        return await asyncio.gather(sender.send_weights(iter([("none", torch.zeros(0, 3))])), take())

    ((name, weight),) = asyncio.run(both())[1]
    assert name == "none" and weight.shape == (0, 3)
    for engine in (sender, receiver):
        engine.finalize()


@pytest.mark.parametrize("far", [False, True], ids=["one node", "two nodes"])
def test_on_one_node_the_network_is_left_alone(monkeypatch, far):
    """127.0.0.2 stands for the address of this node in its network."""
    monkeypatch.setattr(weights.ray.util, "get_node_ip_address", lambda: "127.0.0.2")
    sender, receivers = TcpCheckpointEngine(1, is_master=True), [TcpCheckpointEngine(1) for _ in range(2)]
    metadata = [engine.prepare() for engine in (sender, *receivers)]
    metadata[2]["node"] = "another" if far else metadata[2]["node"]
    kwargs = TcpCheckpointEngine.build_topology(1, 2, metadata)
    assert kwargs[1]["address"] == [metadata[0]["local"], metadata[0]["address" if far else "local"]]
    sender.init_process_group(**{name: values[0] for name, values in kwargs[0].items()})
    for rank, engine in enumerate(receivers):
        engine.init_process_group(**{name: values[rank] for name, values in kwargs[1].items()})
    assert reached(metadata[0]["local"]) and reached(metadata[0]["address"], far) == far
    for got in asyncio.run(transfer([sender], receivers)):
        assert [name for name, _ in got] == list(WEIGHTS)
    for engine in (sender, *receivers):
        engine.finalize()


def reached(address, expected=True):
    """Whether somebody listens there; what another thread closes may take a moment."""
    host, port = address.removeprefix("tcp://").split(":")
    for _ in range(100):
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except ConnectionRefusedError:
            return False
        if expected:
            return True
        time.sleep(0.05)
    return True
