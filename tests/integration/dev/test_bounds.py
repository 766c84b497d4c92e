"""Tests how much one client can make the broker hold."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from amqtt.mqtt import PublishPacket, SubscribePacket

from hooks.dev import packet_writer
from hooks.dev.connection import Connection
from hooks.dev.events import EventMessage
from tests.integration.dev.conftest import Embedded, RawClient, until


async def _deaf(embedded: Embedded) -> tuple[RawClient, Connection]:
    """Returns a client that subscribes and then reads nothing."""
    client = await embedded.raw("1002", "deaf")
    await client.send(SubscribePacket.build([("single/1002", 1)], 1).to_bytes())
    assert await client.receive() == bytes([0x90, 0, 1, 1])
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return client, embedded.connection("1002-deaf")


async def _fill(embedded: Embedded, held: Connection) -> None:
    """More than fits into the buffers of both ends."""
    for _ in range(300):
        embedded.broker.publish(EventMessage("single/1002", b"x" * 100_000, 0, "http_api"))
        await asyncio.sleep(0)
    assert held._writer.unsent_bytes > 0


async def test_a_client_that_takes_nothing_is_gone(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_writer, "SEND_SECONDS", 0.3)
    client, held = await _deaf(embedded)
    await _fill(embedded, held)
    await until(lambda: not embedded.broker.sessions)
    await until(lambda: embedded.service.of("1002-deaf")[-1] == "client.disconnected enotconn")
    client.abort()


async def test_what_waits_for_a_slow_client_is_bounded_in_bytes(embedded: Embedded) -> None:
    client, held = await _deaf(embedded)
    for _ in range(10):
        await _fill(embedded, held)
    assert held._writer.unsent_bytes < packet_writer._MAX_UNSENT_BYTES_QOS_0 + 200_000
    for _ in range(2000):
        embedded.broker.publish(EventMessage("single/1002", b"y" * 100_000, 1, "http_api"))
    session = embedded.broker.sessions["1002-deaf"]
    assert (session.in_flight, session.queued) == (32, 1000)
    client.abort()


async def test_who_sends_too_fast_is_read_later_and_loses_nothing(embedded: Embedded) -> None:
    """40 messages of a kilobyte at 20 a second, after a second's worth at once; others are not slowed."""
    embedded.broker.bytes_rate = 20 * 1024
    client, other = await embedded.raw("1001"), await embedded.raw("1003")
    started = time.monotonic()
    packet_ids = range(1, 61)
    burst = [PublishPacket.build("single/1002", b"x" * 1007, n, False, 1, False).to_bytes() for n in packet_ids]
    assert {len(packet) for packet in burst} == {1025}
    await client.send(b"".join(burst))
    await other.send(b"\xc0\x00")
    assert await other.receive() == b"\xd0"
    assert [await client.receive() for _ in packet_ids] == [bytes([0x40, 0, n]) for n in packet_ids]
    assert time.monotonic() - started > 1.8
    await until(lambda: len(embedded.service.of("1001-raw")) == 61)
    for each in (client, other):
        each.abort()


@pytest.mark.parametrize(
    ("topic", "asked", "delivered"),
    [
        ("$delayed/5/group/7", ["group/7"], True),
        ("$delayed/x/$delayed/5/group/7", ["group/7"], True),
        ("$delayed/5/single/1002", [], True),
        ("$delayed/0/", [""], False),
        ("$delayed/5", [], False),
        ("$delayed/group", [], False),
    ],
)
async def test_delayed_topics_are_judged_by_what_is_behind_and_delay_nothing(
    embedded: Embedded, topic: str, asked: list[str], delivered: bool
) -> None:
    async def allow_group_7(question: dict[str, Any]) -> web.Response:
        return web.json_response({"result": "allow" if question["topic"] == "group/7" else "deny"})

    embedded.service.authorize = allow_group_7
    heard: list[str] = []
    deliver = embedded.broker._deliver

    def listen(message: EventMessage) -> int:
        heard.append(message.topic)
        return deliver(message)

    embedded.broker._deliver = listen  # type: ignore[method-assign]
    client = await embedded.raw("1001")
    await client.send(PublishPacket.build(topic, b"x", 5, False, 1, False).to_bytes())
    assert await client.receive() == b"\x40\x00\x05"
    assert [question["topic"] for question in embedded.service.questions] == asked
    assert heard == ([topic] if delivered else [])
    client.abort()
    await until(lambda: embedded.service.of("1001-raw") == ["client.connected", "client.disconnected tcp_closed"])
