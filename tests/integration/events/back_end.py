"""An operator's back end: it takes batches of events, checks their signatures, and does what a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.webserver import serving

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiBldmVudHM="


class BackEnd:
    """events: those it has taken, in the order they came. status: its answer; 0: none, until `gone` is set.

    before: statuses of the next requests. ready: it answers nothing while this is clear. dies: whether it takes the
    next batch, and breaks the connection.
    """

    def __init__(self) -> None:
        self.status = 204
        self.before: list[int] = []
        self.dies = False
        self.gone = asyncio.Event()
        self.ready = asyncio.Event()
        self.ready.set()
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, int]] = []
        self.url = ""
        self._webhook = Webhook(SECRET)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self._webhook.verify(raw, dict(request.headers), json_parse=False)
        events = orjson.loads(raw)["events"]
        assert len(events) <= 100
        assert len(raw) <= 1024 * 1024 + 100
        self.requests.append((request.headers["webhook-id"], len(events)))
        await self.ready.wait()
        status = self.before.pop(0) if self.before else self.status
        if status == 0:
            await self.gone.wait()
        if self.dies:
            self.events += events
            self.dies = False
            assert request.transport is not None
            request.transport.abort()
        elif 200 <= status < 300:
            self.events += events
        return web.Response(status=status or 503)

    def taken(self, kind: str) -> list[dict[str, Any]]:
        """Returns the events of a kind, each once, in the order in which they came first."""
        first = {each["id"]: each for each in reversed(self.events) if each["type"] == kind}
        return list(reversed(first.values()))


@asynccontextmanager
async def running_back_end() -> AsyncIterator[BackEnd]:
    end = BackEnd()
    application = web.Application(client_max_size=2**24)
    application.add_routes([web.post("/events/", end.receive)])
    async with serving(application) as address:
        end.url = f"{address}/events/"
        try:
            yield end
        finally:
            end.gone.set()
            end.ready.set()
