"""Tests what the webhook does with each kind of answer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hooks.dev.webhook import WebhookCaller
from tests.integration.dev.conftest import TOKEN, Embedded, bound, until


async def test_503_and_429_are_asked_again_and_order_is_kept(embedded: Embedded) -> None:
    asked: Counter[str] = Counter()

    async def unwell(hook: str, body: dict[str, Any]) -> int:
        if hook != "message":
            return 204
        asked[body["id"]] += 1
        return 204 if asked[body["id"]] == 3 else 503 if asked[body["id"]] == 1 else 429

    embedded.service.answer = unwell
    async with embedded.client("1001") as sender:
        for number in range(5):
            await sender.publish(f"single/{number + 1}", b"x", qos=1)
    await until(lambda: len(embedded.service.of("1001-phone")) == 7)
    assert embedded.service.of("1001-phone")[1:6] == [f"message single/{number}" for number in range(1, 6)]


async def test_other_statuses_drop_the_call_at_once(embedded: Embedded) -> None:
    asked = []

    async def broken(hook: str, body: dict[str, Any]) -> int:
        if hook == "message":
            asked.append(body["topic"])
            return {"single/1": 500, "single/2": 400, "single/3": 502}.get(body["topic"], 204)
        return 204

    embedded.service.answer = broken
    async with embedded.client("1001") as sender:
        for number in range(1, 5):
            await sender.publish(f"single/{number}", b"x", qos=1)
        await until(lambda: embedded.service.of("1001-phone")[1:] == ["message single/4"])
    assert asked == [f"single/{number}" for number in range(1, 5)]


async def test_one_request_in_flight_per_client_and_clients_beside_each_other(embedded: Embedded) -> None:
    flying: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def slow(hook: str, body: dict[str, Any]) -> int:
        for key in (body["clientid"], "all"):
            flying[key] += 1
            most[key] = max(most[key], flying[key])
        await asyncio.sleep(0.02)
        for key in (body["clientid"], "all"):
            flying[key] -= 1
        return 204

    embedded.service.answer = slow
    async with embedded.client("1001") as one, embedded.client("1002") as two:
        for _ in range(5):
            await asyncio.gather(one.publish("single/1", b"x", qos=1), two.publish("single/1", b"x", qos=1))
    await until(lambda: len(embedded.service.calls) == 14)
    assert most["1001-phone"] == most["1002-phone"] == 1
    assert most["all"] == 2


class Sink:
    """A hook server that can be away."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.runner: web.AppRunner | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.hold.wait()
        self.bodies.append(body)
        return web.Response(status=204)

    async def start(self, port: int) -> int:
        application = web.Application()
        application.router.add_post("/hooks/{hook}", self.take)
        self.runner = web.AppRunner(application, shutdown_timeout=0)
        await self.runner.setup()
        listener = bound(port)
        await web.SockSite(self.runner, listener).start()
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        assert self.runner is not None
        await self.runner.cleanup()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    sink = Sink()
    yield sink
    if sink.runner is not None:
        await sink.stop()


async def test_a_service_that_is_away_gets_everything_when_it_is_back(sink: Sink) -> None:
    port = await sink.start(0)
    async with aiohttp.ClientSession() as http:
        webhook = WebhookCaller(http, f"http://127.0.0.1:{port}", TOKEN)
        webhook.put("a", "message", b"1")
        await until(lambda: sink.bodies == [b"1"])
        await sink.stop()
        for number in range(2, 6):
            webhook.put("a", "message", str(number).encode())
        await asyncio.sleep(0.2)
        await sink.start(port)
        await webhook.drain(10)
    assert sink.bodies == [b"1", b"2", b"3", b"4", b"5"]


async def test_the_oldest_calls_are_dropped_when_too_much_waits(sink: Sink) -> None:
    port = await sink.start(0)
    sink.hold.clear()
    async with aiohttp.ClientSession() as http:
        webhook = WebhookCaller(http, f"http://127.0.0.1:{port}", TOKEN, max_bytes=10)
        webhook.put("a", "message", b"a0")
        webhook.put("b", "message", b"b0")
        await asyncio.sleep(0)
        for number in range(1, 5):
            webhook.put("a", "message", f"a{number}".encode())
            webhook.put("b", "message", f"b{number}".encode())
        sink.hold.set()
        await webhook.drain(10)
    assert sorted(sink.bodies) == [b"a0", b"a3", b"a4", b"b0", b"b2", b"b3", b"b4"]


async def test_a_drain_gives_up_in_time(sink: Sink) -> None:
    port = await sink.start(0)
    sink.hold.clear()
    async with aiohttp.ClientSession() as http:
        webhook = WebhookCaller(http, f"http://127.0.0.1:{port}", TOKEN)
        for _ in range(3):
            webhook.put("a", "message", b"x")
        async with asyncio.timeout(5):
            await webhook.drain(0.1)
    assert sink.bodies == []
    sink.hold.set()
