"""The broker against MQTT clients: what it must do as EMQX does."""

import asyncio
import base64
import subprocess
import time
from typing import Any

import aiomqtt
import pytest
from aiohttp import web
from amqtt.mqtt import PingReqPacket, PublishPacket, SubscribePacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from hooks.dev.events import EventMessage
from hooks.dev.packets import Will
from tests.integration.dev.conftest import Embedded, RawClient, connect_packet, signed, token, until
from tests.recorded import recorded


async def _received(client: aiomqtt.Client, count: int) -> list[tuple[str, bytes, int]]:
    messages = []
    async with asyncio.timeout(10):
        async for message in client.messages:
            messages.append((message.topic.value, bytes(message.payload), message.qos))
            if len(messages) == count:
                break
    return messages


async def test_a_message_is_delivered_live_and_told_to_the_service(embedded: Embedded) -> None:
    async with embedded.client("1002") as receiver, embedded.client("1001") as sender:
        await receiver.subscribe("single/1002", qos=1)
        await sender.publish("single/1002", b'{"id":"a"}\xff', qos=1)
        assert await _received(receiver, 1) == [("single/1002", b'{"id":"a"}\xff', 1)]
        await until(lambda: "message single/1002" in embedded.service.of("1001-phone"))
    [body] = [body for hook, body in embedded.service.calls if hook == "message"]
    example = {key: value for key, value in recorded("publish_single")[0].items() if key in body}
    assert set(body) == set(example) | {"hook", "rest"}
    assert {key: type(value) for key, value in example.items()} == {key: type(body[key]) for key in example}
    assert body | {"username": "1001", "clientid": "1001-phone", "qos": 1, "rest": False} == body
    assert base64.b64decode(body["payload_b64"]) == b'{"id":"a"}\xff'
    assert len(body["id"]) == 32


async def test_presence_events_have_the_recorded_shape(embedded: Embedded) -> None:
    async with embedded.client("1001") as client:
        await client.subscribe([("single/1001", 1), ("group/7", 1)])
    await until(lambda: len(embedded.service.calls) == 3)
    bodies = [body for _, body in embedded.service.calls]
    for body, name in zip(bodies, ["client_connected", "session_subscribed", "client_disconnected"], strict=True):
        example = recorded(name)[0]
        assert body["event"] == example["event"]
        for column in set(body) - {"hook"}:
            assert type(body[column]) is type(example.get(column, "undefined")), column
            assert (body[column] == "undefined") == (example.get(column, "undefined") == "undefined"), column
    connected, subscribed, disconnected = bodies
    assert disconnected["connected_at"] == connected["connected_at"]
    assert (subscribed["topic"], subscribed["qos"]) == ("single/1001", 1)
    assert disconnected["reason"] == "normal"


async def test_questions_to_the_authorizer(embedded: Embedded) -> None:
    async with embedded.client("1001") as client:
        await client.publish("group/77", b"x", qos=1)
        await client.publish("group/77", b"y", qos=1)
        await client.subscribe("group/77", qos=1)
        await client.publish("group/77", b"z", qos=0)
        await client.publish("group/77", b"z", qos=1)
        asked = embedded.service.questions
        assert [(question["action"], question["qos"]) for question in asked] == [
            ("publish", "1"),
            ("subscribe", "1"),
            ("publish", "0"),
        ]
        assert all(set(question) < set(recorded("authz")[0]) for question in asked)
        assert asked[0] == {
            "username": "1001",
            "clientid": "1001-phone",
            "topic": "group/77",
            "action": "publish",
            "qos": "1",
        }
        embedded.broker.sessions["1001-phone"].connection.permissions.forget()  # type: ignore[union-attr]
        await client.publish("group/77", b"z", qos=1)
        assert len(asked) == 4


async def test_one_clients_packets_are_handled_in_order(embedded: Embedded) -> None:
    """Twenty publishes that each wait for the authorizer, then a SUBSCRIBE that does not."""

    async def slowly(question: dict[str, Any]) -> web.Response:
        await asyncio.sleep(0.015)
        return web.json_response({"result": "allow"})

    embedded.service.authorize = slowly
    client = await embedded.raw("1001")
    burst = b"".join(PublishPacket.build(f"group/{n}", b"x", n, False, 1, False).to_bytes() for n in range(1, 21))
    await client.send(burst + SubscribePacket.build([("single/1001", 1)], 99).to_bytes())
    answers = [await client.receive() for _ in range(21)]
    assert answers[:20] == [bytes([0x40, 0, n]) for n in range(1, 21)]
    assert answers[20] == bytes([0x90, 0, 99, 1])
    await until(lambda: len(embedded.service.of("1001-raw")) == 22)
    assert embedded.service.of("1001-raw") == [
        "client.connected",
        *(f"message group/{n}" for n in range(1, 21)),
        "session.subscribed",
    ]
    client.abort()


async def test_who_is_silent_past_his_keepalive_is_gone(embedded: Embedded) -> None:
    client = await embedded.raw("1001", keepalive=1)
    started = time.monotonic()
    await asyncio.sleep(1)
    await client.send(PingReqPacket().to_bytes())
    assert await client.receive() == b"\xd0"
    assert await client.receive() == b""
    assert 2.4 < time.monotonic() - started < 4
    await until(lambda: "client.disconnected keepalive_timeout" in embedded.service.of("1001-raw"))
    client.abort()


@pytest.mark.parametrize(("clean", "reason"), [(True, "discarded"), (False, "takenover")])
async def test_takeover(embedded: Embedded, clean: bool, reason: str) -> None:
    old = await embedded.raw("1001", "phone", clean=False)
    await old.send(SubscribePacket.build([("single/1001", 1)], 1).to_bytes())
    assert await old.receive() == bytes([0x90, 0, 1, 1])
    async with embedded.client("1001", clean_session=clean) as new, embedded.client("1002") as sender:
        assert await old.receive() == b""
        await until(lambda: len(embedded.service.of("1001-phone")) == 4)
        assert embedded.service.of("1001-phone") == [
            "client.connected",
            "session.subscribed",
            f"client.disconnected {reason}",
            "client.connected",
        ]
        if clean:
            await new.subscribe("single/1001", qos=1)
        await sender.publish("single/1001", b"live", qos=1)
        assert await _received(new, 1) == [("single/1001", b"live", 1)]
    old.abort()


async def test_taking_over_ten_times_at_once_leaves_one_connection(embedded: Embedded) -> None:
    clients = await asyncio.gather(*(embedded.raw("1001", "phone") for _ in range(10)))
    await until(lambda: len(embedded.service.calls) == 19)
    events = embedded.service.of("1001-phone")
    assert events == ["client.connected", *["client.disconnected discarded", "client.connected"] * 9]
    for client in clients:
        client.abort()
    await until(lambda: not embedded.broker.sessions)


async def test_a_will_is_authorized_when_sent_and_comes_before_the_disconnect(embedded: Embedded) -> None:
    embedded.service.authorize = _deny
    for username in ("1001", "1002"):
        dying = await embedded.raw(username, "phone", will=Will("im/will/1001", b"gone", 1, False))
        dying.abort()
        await until(lambda: not embedded.broker.sessions)
    await until(lambda: len(embedded.service.calls) == 5)
    assert embedded.service.of("1001-phone") == [
        "client.connected",
        "will im/will/1001",
        "client.disconnected tcp_closed",
    ]
    assert embedded.service.of("1002-phone") == ["client.connected", "client.disconnected tcp_closed"]
    _, will = embedded.service.calls[1]
    assert {key: will[key] for key in ("rest", "qos", "username")} == {"rest": False, "qos": 1, "username": "1001"}


async def _deny(question: dict[str, Any]) -> web.Response:
    return web.json_response({"result": "deny"})


async def test_no_will_after_a_disconnect(embedded: Embedded) -> None:
    async with embedded.client("1001", will=aiomqtt.Will("im/will/1001", b"gone", qos=1)):
        pass
    await until(lambda: len(embedded.service.calls) == 2)
    assert embedded.service.of("1001-phone") == ["client.connected", "client.disconnected normal"]


async def test_a_wrong_login_disturbs_nobody(embedded: Embedded) -> None:
    async with embedded.client("1002") as victim:
        await victim.subscribe("single/1002", qos=1)
        for password in ("wrong", token("1001"), token("1002", exp=int(time.time()) - 10), None):
            with pytest.raises(aiomqtt.MqttCodeError) as refused:
                await embedded.client("1002", password=password).__aenter__()
            assert refused.value.rc == ReasonCode(
                PacketTypes.CONNACK, "Not authorized" if password in (None, "wrong") else "Bad user name or password"
            )
        async with embedded.client("1001") as sender:
            await sender.publish("single/1002", b"still here", qos=1)
        assert (await _received(victim, 1))[0][1] == b"still here"
    assert "client.disconnected discarded" not in embedded.service.of("1002-phone")


async def test_the_same_clientid_of_another_user_is_another_session(embedded: Embedded) -> None:
    async with embedded.client("1002", "phone", clean_session=False) as victim:
        await victim.subscribe("single/1002", qos=1)
    async with embedded.client("1001", "phone", clean_session=False):
        assert set(embedded.broker.sessions) == {"1001-phone", "1002-phone"}
        assert embedded.broker.sessions["1001-phone"].subscriptions == {}


async def test_a_login_ends_with_its_token(embedded: Embedded) -> None:
    client = await embedded.raw("1001", password=token("1001", exp=int(time.time()) + 2))
    assert await client.receive() == b""
    await until(lambda: embedded.service.of("1001-raw")[-1] == "client.disconnected not_authorized")
    client.abort()


async def test_delivery_takes_the_lower_qos(embedded: Embedded) -> None:
    async with embedded.client("1002") as receiver, embedded.client("1001") as sender:
        await receiver.subscribe([("single/1002", 1), ("group/7", 0), ("group/8", 2)])
        assert embedded.broker.sessions["1002-phone"].subscriptions["group/8"] == 1
        await sender.publish("single/1002", b"a", qos=0)
        await sender.publish("single/1002", b"b", qos=1)
        await sender.publish("group/7", b"c", qos=1)
        assert [(payload, qos) for _, payload, qos in await _received(receiver, 3)] == [(b"a", 0), (b"b", 1), (b"c", 0)]


async def test_an_absent_client_finds_what_was_published_with_qos_1(embedded: Embedded) -> None:
    """And nothing that is online only: `mqueue_store_qos0` is off."""
    async with embedded.client("1002", clean_session=False) as receiver:
        await receiver.subscribe("single/1002", qos=1)
    async with embedded.client("1001") as sender:
        await sender.publish("single/1002", b"typing", qos=0)
        for number in range(3):
            await sender.publish("single/1002", str(number).encode(), qos=1)
    async with embedded.client("1002", clean_session=False) as receiver:
        assert [payload for _, payload, _ in await _received(receiver, 3)] == [b"0", b"1", b"2"]
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
        payloads = [payload for _, payload, _ in await _received(receiver, 1000)]
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
        assert await _received(listener, 1) == [("im/will/1001", b"gone", 1)]
    async with embedded.client("ops") as late:
        await late.subscribe("im/will/1001", qos=1)
        embedded.broker.publish(EventMessage("im/will/1001", b"later", 1, "http_api"))
        assert await _received(late, 1) == [("im/will/1001", b"later", 1)]


async def test_a_denied_publish_is_acknowledged_and_goes_nowhere(embedded: Embedded) -> None:
    embedded.service.authorize = _deny
    async with embedded.client("1002") as listener, embedded.client("1001") as sender:
        await listener.subscribe("single/1002", qos=1)
        await sender.publish("business/global", b"x", qos=1)
        await sender.publish("single/1002", b"y", qos=1)
        assert await _received(listener, 1) == [("single/1002", b"y", 1)]
    await until(lambda: "message single/1002" in embedded.service.of("1001-phone"))
    assert "message business/global" not in embedded.service.of("1001-phone")


@pytest.mark.parametrize("answer", [web.Response(status=503), web.Response(text="allow"), None])
async def test_an_authorizer_that_decides_nothing_denies(embedded: Embedded, answer: web.Response | None) -> None:
    async def answers(question: dict[str, Any]) -> web.Response:
        if answer is None:
            raise web.HTTPInternalServerError
        return answer

    embedded.service.authorize = answers
    client = await embedded.raw("1001")
    await client.send(SubscribePacket.build([("group/7", 1), ("single/1001", 1)], 1).to_bytes())
    assert await client.receive() == bytes([0x90, 0, 1, 0x80, 1])
    client.abort()


async def test_204_of_the_authorizer_allows(embedded: Embedded) -> None:
    async def answers(question: dict[str, Any]) -> web.Response:
        return web.Response(status=204)

    embedded.service.authorize = answers
    client = await embedded.raw("1001")
    await client.send(SubscribePacket.build([("group/7", 2)], 1).to_bytes())
    assert await client.receive() == bytes([0x90, 0, 1, 1])
    client.abort()


@pytest.mark.parametrize(
    "pattern", ["$share/g/single/1001", "$queue/single/1001", "$exclusive/single/1001", "#", "single/+"]
)
async def test_filters_that_nobody_gets(embedded: Embedded, pattern: str) -> None:
    embedded.service.authorize = _deny
    client = await embedded.raw("1001")
    await client.send(SubscribePacket.build([(pattern, 1), ("single/1001", 1)], 1).to_bytes())
    assert await client.receive() == bytes([0x90, 0, 1, 0x80, 1])
    client.abort()


async def test_wildcard_subscribers_and_unsubscribe(embedded: Embedded) -> None:
    async with embedded.client("ops") as listener, embedded.client("1001") as sender:
        await listener.subscribe("group/+", qos=1)
        await sender.publish("group/7", b"a", qos=1)
        assert await _received(listener, 1) == [("group/7", b"a", 1)]
        await listener.unsubscribe("group/+")
        assert embedded.broker.publish(EventMessage("group/7", b"b", 1, "http_api")) == 0


async def test_version_5_is_refused_in_its_own_words(embedded: Embedded) -> None:
    with pytest.raises(aiomqtt.MqttCodeError) as refused:
        await embedded.client("1001", protocol=aiomqtt.ProtocolVersion.V5).__aenter__()
    assert refused.value.rc == ReasonCode(PacketTypes.CONNACK, "Unsupported protocol version")
    assert not embedded.broker.sessions


@pytest.mark.parametrize("level", [2, 6, 0x84])
async def test_other_versions_are_refused(embedded: Embedded, level: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    writer.write(connect_packet("1001", "phone", level=level))
    assert await reader.read() == b"\x20\x02\x00\x01"
    writer.close()


async def test_an_empty_clientid_gets_one_only_with_a_clean_session(embedded: Embedded) -> None:
    async with embedded.client("1001", ""):
        [clientid] = embedded.broker.sessions
        assert clientid.startswith("1001-")
        assert len(clientid) > 10
    reader, writer = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    writer.write(connect_packet("1001", "", clean=False))
    assert await reader.read() == b"\x20\x02\x00\x02"
    writer.close()


async def test_over_a_websocket(embedded: Embedded) -> None:
    options: dict[str, Any] = {"port": embedded.ws_port, "transport": "websockets", "websocket_path": "/mqtt"}
    async with embedded.client("1002", **options) as receiver, embedded.client("1001") as sender:
        await receiver.subscribe("single/1002", qos=1)
        await sender.publish("single/1002", b"x" * 100_000, qos=1)
        assert await _received(receiver, 1) == [("single/1002", b"x" * 100_000, 1)]
        await receiver.publish("single/1001", b"y", qos=1)
    await until(lambda: "client.disconnected normal" in embedded.service.of("1002-phone"))
    assert "message single/1001" in embedded.service.of("1002-phone")


async def test_a_packet_over_the_limit_closes_the_connection(embedded: Embedded) -> None:
    async with embedded.client("1002") as receiver:
        await receiver.subscribe("single/1002", qos=1)
        client = await embedded.raw("1001")
        await client.send(PublishPacket.build("single/1002", b"x" * 131_057, 1, False, 1, False).to_bytes())
        assert await client.receive() == b"\x40\x00\x01"
        assert len((await _received(receiver, 1))[0][1]) == 131_057
        await client.send(PublishPacket.build("single/1002", b"x" * 131_058, 1, False, 1, False).to_bytes())
        assert await client.receive() == b""
    await until(lambda: "client.disconnected frame_too_large" in embedded.service.of("1001-raw"))
    client.abort()


def _mosquitto(program: str, embedded: Embedded, username: str, *arguments: str) -> list[str]:
    common = ["-h", "127.0.0.1", "-p", str(embedded.mqtt_port), "-u", username, "-P", token(username), "-q", "1"]
    return [program, *common, *arguments]


async def test_mosquitto_clients(embedded: Embedded) -> None:
    arguments = _mosquitto("mosquitto_sub", embedded, "1002", "-i", "sub", "-t", "single/1002", "-C", "2", "-W", "20")
    listening = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    await until(lambda: "session.subscribed" in embedded.service.of("1002-sub"))
    for text in ("one", "two"):
        arguments = _mosquitto("mosquitto_pub", embedded, "1001", "-t", "single/1002", "-m", text)
        publishing = await asyncio.create_subprocess_exec(*arguments)
        assert await publishing.wait() == 0
    output, _ = await listening.communicate()
    assert output == b"one\ntwo\n"
    refused = await asyncio.create_subprocess_exec(
        *_mosquitto("mosquitto_pub", embedded, "1001", "-V", "5", "-t", "single/1002", "-m", "x"),
        stderr=subprocess.PIPE,
    )
    _, error = await refused.communicate()
    assert refused.returncode != 0
    assert b"Unsupported Protocol Version" in error


NOW = int(time.time())
HEAD = b'{"alg":"HS256"}'
CLAIMS = b'{"sub":"1001","exp":%d}' % (NOW + 6000)


@pytest.mark.parametrize(
    ("password", "answer"),
    [
        (token("1001", exp=NOW + 6000), 0),
        (token("1001", exp=str(NOW + 6000)), 0),
        (token("1001", exp=10**10), 0),
        (signed(b'{"sub":"1001"}'), 0),
        (token("1001", exp=NOW + 6000, iat=NOW + 5000, aud="x", nbf=NOW - 1.5), 0),
        (signed(CLAIMS, b'{"alg":"HS256","kid":5,"crit":["x"]}'), 0),
        (signed(b'{"sub":"1002","exp":%d,"sub":"1001"}' % (NOW + 6000)), 0),
        (token("1001", exp=NOW - 5), 4),
        (token("1001", exp=NOW + 6000, nbf=NOW + 5000), 4),
        (token("1002", exp=NOW + 6000), 4),
        (signed(b'{"exp":%d}' % (NOW + 6000)), 4),
        (signed(b'{"sub":1001,"exp":%d}' % (NOW + 6000)), 4),
        (signed(b'{"sub":"1001","exp":null}'), 4),
        (token("1001", exp=f" {NOW + 6000}"), 4),
        (token("1001", exp=NOW + 6000.5), 5),
        (token("1001", exp=f"{NOW + 6000}.5"), 5),
        (signed(CLAIMS, secret="another secret that is long enough"), 5),
        (signed(CLAIMS, b'{"typ":"JWT"}'), 5),
        (signed(CLAIMS, b'{"alg":"none"}'), 5),
        (signed(CLAIMS) + ".x", 5),
        ("garbage", 5),
        (token("1001", exp=NOW * 1000), None),
        (token("1001", exp=10**400), None),
    ],
    # Explicit names: a token contains the time, and every process must collect the same tests.
    ids=map(str, range(23)),
)
async def test_who_enters_by_which_token_as_seen_on_emqx(embedded: Embedded, password: str, answer: int | None) -> None:
    """5 for what EMQX cannot verify, 4 for what is verified and wrong, and no answer where its process fails."""
    reader, writer = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    client = RawClient(reader, writer)
    await client.send(connect_packet("1001", "phone", password=password))
    assert await client.receive() == (b"" if answer is None else bytes([0x20, 0, answer]))
    client.abort()


async def test_tokens_of_16_kib_enter(embedded: Embedded) -> None:
    longest = token("1001", padding="x" * 12_100)
    assert 16_000 < len(longest) <= 16_384
    async with embedded.client("1001", password=longest) as client:
        await client.subscribe("single/1001", qos=1)
    with pytest.raises(aiomqtt.MqttCodeError):
        await embedded.client("1001", password=token("1001", padding="x" * 13_000)).__aenter__()


async def test_a_stop_tells_everybody(embedded: Embedded) -> None:
    client = await embedded.raw("1001", will=Will("im/will/1001", b"gone", 1, False))
    _, silent = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    started = time.monotonic()
    await embedded.broker.stop()
    await embedded.webhook.drain(5)
    assert time.monotonic() - started < 3
    assert await client.receive() == b""
    assert embedded.service.of("1001-raw")[1:] == ["will im/will/1001", "client.disconnected server_shutting_down"]
    silent.transport.abort()
    client.abort()
