"""The network carries, cuts, delays, silences, forgets and breaks, as it is told."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator

import pytest

from tests.chaos.network import Network
from tests.servers import free_port, hang
from tests.stream_server import stream_server

GREETING = b"hello"
CLIENTS: list["Client"] = []
"""Those that the running test has connected."""


@pytest.fixture
async def network() -> AsyncIterator[tuple[Network, int]]:
    """A network in front of an echo that speaks first; the port before it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        while data := await reader.read(4096):
            writer.write(data)

    async with stream_server(echo) as echoing:
        port = free_port()
        network = Network({"echo": (port, echoing)})
        await network.start()
        yield network, port
        await network.stop()
        for client in CLIENTS:
            await client.close()
        CLIENTS.clear()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connected(cls, port: int, source: str = "127.0.0.1") -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))
        CLIENTS.append(client)
        assert await client.read(len(GREETING)) == GREETING
        return client

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):  # broken, as the test wanted
            await self._writer.wait_closed()

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(10):
            return await self._reader.readexactly(count)

    async def echoed(self, data: bytes) -> bytes:
        self._writer.write(data)
        return await self.read(len(data))

    async def is_silent(self, data: bytes) -> bool:
        self._writer.write(data)
        try:
            await asyncio.wait_for(self._reader.read(1), 0.3)
        except TimeoutError:
            return True
        return False


async def test_it_carries_in_order(network: tuple[Network, int]) -> None:
    client = await Client.connected(network[1])
    data = bytes(range(256)) * 1000
    assert await client.echoed(data) == data


async def test_what_was_sent_before_the_other_end_is_connected_is_carried(network: tuple[Network, int]) -> None:
    """The network is held up, so that connections and what they say come to it at once."""
    hang(network[0].pid)
    speaking = [socket.create_connection(("127.0.0.1", network[1]), 10) for _ in range(20)]
    for each in speaking:
        each.sendall(b"x")
        each.setblocking(False)
    os.kill(network[0].pid, signal.SIGCONT)
    for each in speaking:
        reader, writer = await asyncio.open_connection(sock=each)
        CLIENTS.append(client := Client(reader, writer))
        assert await client.read(len(GREETING) + 1) == GREETING + b"x"


async def test_a_cut_ends_connections_and_refuses_new_ones(network: tuple[Network, int]) -> None:
    client = await Client.connected(network[1])
    await network[0].order("echo", "cut")
    with pytest.raises((OSError, EOFError)):
        await client.echoed(b"x")
    with pytest.raises((OSError, EOFError)):
        await Client.connected(network[1])
    await network[0].order("echo", "pass")
    assert await (await Client.connected(network[1])).echoed(b"x") == b"x"


async def test_a_delay_takes_that_long_both_ways(network: tuple[Network, int]) -> None:
    client = await Client.connected(network[1])
    await network[0].order("echo", "delay", 0.2)
    began = time.monotonic()
    assert await client.echoed(b"x") == b"x"
    assert time.monotonic() - began >= 0.4


async def test_an_address_is_refused_and_others_are_not(network: tuple[Network, int]) -> None:
    port = network[1]
    near, far = await Client.connected(port), await Client.connected(port, "127.0.0.11")
    await network[0].refuse("echo", ["127.0.0.11"])
    with pytest.raises((OSError, EOFError)):
        await far.read(1)
    with pytest.raises((OSError, EOFError)):
        await Client.connected(port, "127.0.0.11")
    assert await near.echoed(b"x") == b"x"
    assert await (await Client.connected(port)).echoed(b"x") == b"x"
    await network[0].refuse("echo", [])
    assert await (await Client.connected(port, "127.0.0.11")).echoed(b"x") == b"x"


async def test_what_was_silenced_arrives_afterwards(network: tuple[Network, int]) -> None:
    client = await Client.connected(network[1])
    await network[0].order("echo", "stall")
    assert await client.is_silent(b"x")
    await network[0].order("echo", "pass")
    assert await client.echoed(b"yz") == b"xy"


async def test_a_forgotten_connection_stays_silent_and_new_ones_pass(network: tuple[Network, int]) -> None:
    client = await Client.connected(network[1])
    await network[0].order("echo", "forget")
    assert await client.is_silent(b"x")
    assert await (await Client.connected(network[1])).echoed(b"x") == b"x"


async def test_answers_break_in_the_middle(network: tuple[Network, int]) -> None:
    await network[0].order("echo", "break")
    broken = 0
    for _ in range(40):
        try:
            await (await Client.connected(network[1])).echoed(b"x" * 100)
        except (OSError, EOFError):
            broken += 1
    assert broken


async def test_a_storm_answers_each_request_by_itself(network: tuple[Network, int]) -> None:
    await network[0].order("echo", "storm")
    reader, writer = await asyncio.open_connection("127.0.0.1", network[1])
    assert await reader.readexactly(len(GREETING)) == GREETING
    writer.write(b"POST /hooks/message HTTP/1.1\r\nContent-Length: 1\r\n\r\nx" * 2)
    async with asyncio.timeout(10):
        answers = await reader.readuntil(b"{}") + await reader.readuntil(b"{}")
    assert answers.count(b"HTTP/1.1 503 ") == 2
    writer.close()
