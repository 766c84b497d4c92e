"""The broker against MQTT clients: what it must do as EMQX does."""

import asyncio
import base64
import socket
import subprocess
import time
from typing import Any

import aiomqtt
import pytest
from aiohttp import web
from amqtt.mqtt import PingReqPacket, PublishPacket, SubscribePacket

from hooks.dev.packets import Will
from tests.integration.dev.conftest import Embedded, received, token, until
from tests.recorded import recorded


async def test_a_message_is_delivered_live_and_told_to_the_service(embedded: Embedded) -> None:
    async with embedded.client("1002") as receiver, embedded.client("1001") as sender:
        await receiver.subscribe("single/1002", qos=1)
        await sender.publish("single/1002", b'{"id":"a"}\xff', qos=1)
        assert await received(receiver, 1) == [("single/1002", b'{"id":"a"}\xff', 1)]
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
    assert 2.4 < time.monotonic() - started < 20
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
        assert await received(new, 1) == [("single/1001", b"live", 1)]
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


async def test_a_denied_publish_is_acknowledged_and_goes_nowhere(embedded: Embedded) -> None:
    embedded.service.authorize = _deny
    async with embedded.client("1002") as listener, embedded.client("1001") as sender:
        await listener.subscribe("single/1002", qos=1)
        await sender.publish("business/global", b"x", qos=1)
        await sender.publish("single/1002", b"y", qos=1)
        assert await received(listener, 1) == [("single/1002", b"y", 1)]
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


async def test_over_a_websocket(embedded: Embedded) -> None:
    options: dict[str, Any] = {"port": embedded.ws_port, "transport": "websockets", "websocket_path": "/mqtt"}
    async with embedded.client("1002", **options) as receiver, embedded.client("1001") as sender:
        await receiver.subscribe("single/1002", qos=1)
        await sender.publish("single/1002", b"x" * 100_000, qos=1)
        assert await received(receiver, 1) == [("single/1002", b"x" * 100_000, 1)]
        await receiver.publish("single/1001", b"y", qos=1)
    await until(lambda: "client.disconnected normal" in embedded.service.of("1002-phone"))
    assert "message single/1001" in embedded.service.of("1002-phone")


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


@pytest.mark.parametrize("rounds", range(5))
async def test_a_connection_that_is_being_accepted_at_the_stop_is_ended(embedded: Embedded, rounds: int) -> None:
    """rounds: of the event loop, after which it is more or less accepted."""
    with socket.create_connection(("127.0.0.1", embedded.mqtt_port)) as late:
        for _ in range(rounds):
            await asyncio.sleep(0)
        await embedded.broker.stop()
        await asyncio.sleep(0)
        late.settimeout(0)

        def ended() -> bool:
            try:
                return late.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        await until(ended)
