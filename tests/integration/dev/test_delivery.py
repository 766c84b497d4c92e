"""Tests what the embedded broker delivers, and keeps for clients that are away."""

import asyncio

import pytest
from amqtt.mqtt import PublishPacket, SubscribePacket

from hooks.dev.events import EventMessage
from hooks.dev.packets import Will
from tests.integration.dev.conftest import Embedded, connect_packet, received, until


async def test_delivery_takes_the_lower_qos(embedded: Embedded) -> None:
    async with embedded.client("1002") as receiver, embedded.client("1001") as sender:
        await receiver.subscribe([("single/1002", 1), ("group/7", 0), ("group/8", 2)])
        assert embedded.broker.sessions["1002-phone"].subscriptions["group/8"] == 1
        await sender.publish("single/1002", b"a", qos=0)
        await sender.publish("single/1002", b"b", qos=1)
        await sender.publish("group/7", b"c", qos=1)
        assert [(payload, qos) for _, payload, qos in await received(receiver, 3)] == [(b"a", 0), (b"b", 1), (b"c", 0)]


async def test_an_absent_client_finds_what_was_published_with_qos_1(embedded: Embedded) -> None:
    """And nothing that is online only: `mqueue_store_qos0` is off."""
    async with embedded.client("1002", clean_session=False) as receiver:
        await receiver.subscribe("single/1002", qos=1)
    async with embedded.client("1001") as sender:
        await sender.publish("single/1002", b"typing", qos=0)
        for number in range(3):
            await sender.publish("single/1002", str(number).encode(), qos=1)
    async with embedded.client("1002", clean_session=False) as receiver:
        assert [payload for _, payload, _ in await received(receiver, 3)] == [b"0", b"1", b"2"]
    await until(lambda: embedded.service.of("1002-phone")[-1] == "client.disconnected normal")
    connects = [body for _, body in embedded.service.calls if body["event"] == "client.connected"]
    assert [body["clean_start"] for body in connects if body["username"] == "1002"] == [False, False]


async def test_the_queue_of_an_absent_client_holds_the_last_thousand(embedded: Embedded) -> None:
    async with embedded.client("1002", clean_session=False) as receiver:
        await receiver.subscribe("single/1002", qos=1)
    await until(lambda: embedded.broker.sessions["1002-phone"].connection is None)
    for number in range(1005):
        embedded.broker.publish(EventMessage("single/1002", str(number).encode(), 1, "http_api"))
    async with embedded.client("1002", clean_session=False) as receiver:
        payloads = [payload for _, payload, _ in await received(receiver, 1000)]
    assert payloads == [str(number).encode() for number in range(5, 1005)]


async def test_what_was_not_acknowledged_comes_again_marked(embedded: Embedded) -> None:
    first = await embedded.raw("1002", "phone", clean=False)
    await first.send(SubscribePacket.build([("single/1002", 1)], 1).to_bytes())
    await first.receive()
    embedded.broker.publish(EventMessage("single/1002", b"x", 1, "http_api"))
    delivered = await first.receive()
    first.abort()
    await until(lambda: embedded.broker.sessions["1002-phone"].connection is None)
    reader, writer = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    writer.write(connect_packet("1002", "phone", clean=False))
    assert await reader.readexactly(4) == b"\x20\x02\x01\x00"
    again = await reader.readexactly(2 + len(delivered) - 1)
    assert delivered[0] == 0x32
    assert again == bytes([0x3A, len(delivered) - 1]) + delivered[1:]
    writer.transport.abort()


async def test_no_more_than_thirty_two_unacknowledged_at_a_time(embedded: Embedded) -> None:
    client = await embedded.raw("1002", "phone")
    await client.send(SubscribePacket.build([("single/1002", 1)], 1).to_bytes())
    await client.receive()
    for _ in range(40):
        embedded.broker.publish(EventMessage("single/1002", b"x", 1, "http_api"))
    session = embedded.broker.sessions["1002-phone"]
    assert (session.in_flight, session.queued) == (32, 8)
    delivered = [await client.receive() for _ in range(32)]
    assert len({packet[14:16] for packet in delivered}) == 32
    await client.send(b"\x40\x02" + delivered[0][14:16])
    await until(lambda: (session.in_flight, session.queued) == (32, 7))
    client.abort()


@pytest.mark.parametrize(
    ("qos", "retain", "reason"), [(2, False, "qos_not_supported"), (1, True, "retain_not_supported")]
)
async def test_qos_2_and_retained_publishes_close_the_connection(
    embedded: Embedded, qos: int, retain: bool, reason: str
) -> None:
    client = await embedded.raw("1001")
    await client.send(PublishPacket.build("single/1002", b"x", 1, False, qos, retain).to_bytes())
    assert await client.receive() == b""
    await until(lambda: len(embedded.service.of("1001-raw")) == 2)
    assert embedded.service.of("1001-raw")[1] == f"client.disconnected {reason}"
    client.abort()


async def test_a_retained_will_is_delivered_and_not_kept(embedded: Embedded) -> None:
    async with embedded.client("ops") as listener:
        await listener.subscribe("im/will/1001", qos=1)
        dying = await embedded.raw("1001", will=Will("im/will/1001", b"gone", 1, True))
        dying.abort()
        assert await received(listener, 1) == [("im/will/1001", b"gone", 1)]
    async with embedded.client("ops") as late:
        await late.subscribe("im/will/1001", qos=1)
        embedded.broker.publish(EventMessage("im/will/1001", b"later", 1, "http_api"))
        assert await received(late, 1) == [("im/will/1001", b"later", 1)]


async def test_wildcard_subscribers_and_unsubscribe(embedded: Embedded) -> None:
    async with embedded.client("ops") as listener, embedded.client("1001") as sender:
        await listener.subscribe("group/+", qos=1)
        await sender.publish("group/7", b"a", qos=1)
        assert await received(listener, 1) == [("group/7", b"a", 1)]
        await listener.unsubscribe("group/+")
        assert embedded.broker.publish(EventMessage("group/7", b"b", 1, "http_api")) == 0


async def test_a_packet_over_the_limit_closes_the_connection(embedded: Embedded) -> None:
    async with embedded.client("1002") as receiver:
        await receiver.subscribe("single/1002", qos=1)
        client = await embedded.raw("1001")
        await client.send(PublishPacket.build("single/1002", b"x" * 131_057, 1, False, 1, False).to_bytes())
        assert await client.receive() == b"\x40\x00\x01"
        assert len((await received(receiver, 1))[0][1]) == 131_057
        await client.send(PublishPacket.build("single/1002", b"x" * 131_058, 1, False, 1, False).to_bytes())
        assert await client.receive() == b""
    await until(lambda: "client.disconnected frame_too_large" in embedded.service.of("1001-raw"))
    client.abort()
