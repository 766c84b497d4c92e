"""Tests that what operators do to a client is done in its turn, behind the packets that have come, as in EMQX."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from amqtt.mqtt import SubscribePacket

from hooks.dev import connection
from hooks.dev.packets import Will
from tests.integration.dev.conftest import Embedded, RawClient, until
from tests.integration.dev.test_rest import call

CLIENT = "/clients/1001-raw"
TOPIC = {"topic": "group/7", "qos": 1}
OTHER = {"topic": "group/8", "qos": 1}


@dataclass
class Judged:
    """A client whose SUBSCRIBE to `group/7` the service is judging, until `answer` is set."""

    embedded: Embedded
    client: RawClient
    answer: asyncio.Event

    @property
    def subscriptions(self) -> set[str]:
        return set(self.embedded.broker.sessions["1001-raw"].subscriptions)

    async def call(self, method: str, path: str = "", body: Any = None) -> int:
        status: int = (await call(self.embedded, method, CLIENT + path, body))["status"]
        return status


@pytest.fixture
async def judged(embedded: Embedded) -> AsyncIterator[Judged]:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hold(question: dict[str, Any]) -> web.Response:
        asked.set()
        await answer.wait()
        return web.json_response({"result": "allow"})

    embedded.service.authorize = hold
    client = await embedded.raw("1001", clean=False, will=Will("im/will/1001", b"gone", 1, False))
    await client.send(SubscribePacket.build([("group/7", 1)], 7).to_bytes())
    await asked.wait()
    yield Judged(embedded, client, answer)
    client.abort()


@pytest.mark.parametrize(("path", "body"), [("unsubscribe", TOPIC), ("unsubscribe/bulk", [TOPIC])])
async def test_unsubscribing_comes_after_a_subscribe_in_hand(judged: Judged, path: str, body: Any) -> None:
    assert await judged.call("POST", f"/{path}", body) == 204
    judged.answer.set()
    assert await judged.client.receive() == bytes([0x90, 0, 7, 1])
    await judged.client.send(b"\xc0\x00")
    assert await judged.client.receive() == b"\xd0"
    assert judged.subscriptions == set()


async def test_what_is_done_to_a_client_keeps_its_order(judged: Judged) -> None:
    """Also with what the client sends meanwhile."""
    assert await judged.call("POST", "/subscribe/bulk", [OTHER]) == 200
    assert await judged.call("POST", "/unsubscribe", TOPIC) == 204
    assert await judged.call("POST", "/subscribe", TOPIC) == 200
    assert await judged.call("POST", "/unsubscribe", OTHER) == 204
    assert judged.subscriptions == set()
    judged.answer.set()
    assert await judged.client.receive() == bytes([0x90, 0, 7, 1])
    await until(lambda: len(judged.embedded.service.of("1001-raw")) == 1)
    assert judged.subscriptions == {"group/7"}


async def test_a_dropped_cache_takes_the_answer_in_hand_with_it(judged: Judged) -> None:
    assert await judged.call("DELETE", "/authorization/cache") == 204
    judged.answer.set()
    assert await judged.client.receive() == bytes([0x90, 0, 7, 1])
    await judged.client.send(SubscribePacket.build([("group/7", 1)], 8).to_bytes())
    assert await judged.client.receive() == bytes([0x90, 0, 8, 1])
    assert len(judged.embedded.service.questions) == 2


async def test_a_kick_waits_for_its_turn(judged: Judged) -> None:
    kicking = asyncio.create_task(judged.call("DELETE"))
    await until(lambda: judged.embedded.connection("1001-raw")._end == "kicked")
    assert not kicking.done()
    judged.answer.set()
    assert await judged.client.receive() == bytes([0x90, 0, 7, 1])
    assert await judged.client.receive() == b""
    assert await kicking == 204
    expected = ["client.connected", "will im/will/1001", "client.disconnected kicked"]
    await until(lambda: judged.embedded.service.of("1001-raw") == expected)
    assert not judged.embedded.broker.sessions


async def test_who_does_not_come_to_a_kick_is_killed(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody is told, as EMQX kills the process that would tell."""
    monkeypatch.setitem(connection._STEP_DOWN_SECONDS, "kicked", 0.1)
    assert await judged.call("DELETE") == 204
    assert await judged.client.receive() == b""
    assert not judged.embedded.broker.sessions
    judged.answer.set()
    async with judged.embedded.client("1001", "raw"):
        await until(lambda: judged.embedded.service.of("1001-raw") == ["client.connected"] * 2)


async def test_what_is_done_while_a_client_leaves_is_done_to_its_session(judged: Judged) -> None:
    judged.client.abort()
    await until(lambda: not judged.embedded.connection("1001-raw")._incoming.empty())
    assert await judged.call("POST", "/unsubscribe", TOPIC) == 204
    assert await judged.call("POST", "/subscribe", OTHER) == 200
    judged.answer.set()
    await until(lambda: judged.embedded.broker.sessions["1001-raw"].connection is None)
    assert judged.subscriptions == {"group/8"}
