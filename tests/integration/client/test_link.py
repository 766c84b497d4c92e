"""A connection that does not come about leaves nothing behind, and a silent one ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from emqx_im_client import Broker, Device, MemoryState, link
from tests.integration.client.conftest import told, until
from tests.integration.client.service import token
from tests.stream_server import stream_server

CONNACK = bytes([0x20, 2, 0, 0])
PINGREQ, PINGRESP = bytes([0xC0, 0]), bytes([0xD0, 0])


class Silent:
    """Takes connections, and says nothing but `answers`; alive: and that it is there."""

    def __init__(self) -> None:
        self.answers = b""
        self.alive = False
        self.hangs_up = False
        self.pings = 0
        self.opened = 0
        self.open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.open += 1
        writer.write(self.answers)
        try:
            while (received := await reader.read(65536)) and not self.hangs_up:
                if received == PINGREQ:
                    self.pings += 1
                    writer.write(PINGRESP if self.alive else b"")
        finally:
            self.open -= 1


@asynccontextmanager
async def silent() -> AsyncIterator[Silent]:
    broker = Silent()
    async with stream_server(broker.serve) as broker.port:
        yield broker


def device(broker: Silent) -> Device:
    nowhere = "http://127.0.0.1:1"
    return Device(1001, lambda: token(1001), Broker("127.0.0.1", broker.port), nowhere, MemoryState())


async def test_a_broker_that_does_not_answer_is_left_for_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "CONNECT_SECONDS", 0.2)
    async with silent() as broker:
        async with device(broker) as waiting:
            await until(lambda: broker.opened >= 4)
            assert "cannot be reached" in str(await told(waiting))
            assert broker.open <= 1
        await until(lambda: broker.open == 0)


async def test_a_broker_that_hangs_up_before_it_answers_is_left_at_once() -> None:
    async with silent() as broker:
        broker.hangs_up = True
        async with device(broker) as waiting:
            await until(lambda: broker.opened >= 4)
            assert "cannot be reached" in str(await told(waiting))


async def test_a_device_that_is_left_while_it_connects_does_not_connect_later() -> None:
    async with silent() as broker:
        async with device(broker):
            await until(lambda: broker.open == 1)
        await until(lambda: broker.open == 0)


async def test_a_broker_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has taken the login, and says nothing more: not even that it is there when it is asked."""
    monkeypatch.setattr(link, "KEEPALIVE", 1)
    async with silent() as broker:
        broker.answers = CONNACK
        async with device(broker) as waiting:
            await until(lambda: broker.opened >= 2)
            assert "is lost" in str(await told(waiting))
            assert broker.open <= 1


async def test_a_broker_that_is_slow_but_alive_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only silence ends a connection: it may take any time to grant a subscription."""
    monkeypatch.setattr(link, "KEEPALIVE", 1)
    monkeypatch.setattr(link, "CONNECT_SECONDS", 1)
    async with silent() as broker:
        broker.answers, broker.alive = CONNACK, True
        async with device(broker):
            await until(lambda: broker.pings >= 4)
            assert (broker.opened, broker.open) == (1, 1)
