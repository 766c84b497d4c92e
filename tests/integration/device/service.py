"""A model of the service for the client library: a real broker in this process and a tiny store."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
from aiohttp import web
from amqtt.broker import Broker

from tests.servers import free_port

KEYS = {"1001": "secret-1001", "1002": "secret-1002"}


class Service:
    """Stores what is published to `single/+` unless it is deaf; the next pulls are answered with `trouble`."""

    def __init__(self) -> None:
        self.mqtt_port = free_port()
        self.http_port = free_port()
        self.epoch = "first"
        self.deaf = False
        self.page = 200
        self.trouble: list[tuple[int, dict[str, str]]] = []
        self.refuse: set[str] = set()
        self.pulls: list[dict[str, str]] = []
        self.published: list[dict[str, Any]] = []
        self.timelines: dict[str, list[dict[str, Any]]] = {}
        self.pull_gate = asyncio.Event()
        self.pull_gate.set()
        self._clock = 0
        self._broker: Broker | None = None
        self._ears: asyncio.Task[None] | None = None
        self._mqtt: aiomqtt.Client | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def store(self, uid: str, sender: str, client_id: str, **fields: Any) -> int:
        """Into the timeline of `uid`, without anything live."""
        self._clock += 1
        self.timelines.setdefault(uid, []).append(
            {
                **{"last_id": self._clock, "mid": self._clock, "topic": f"single/{uid}", "from": sender},
                **{"id": client_id, "qos": 1, "ts": self._clock},
                "payload": {"id": client_id, "from": sender, **fields},
            }
        )
        return self._clock

    async def tell(self, uid: str, kind: str, body: dict[str, Any], key: str | None = None) -> None:
        """A control message, live."""
        message = {
            "from": "0",
            "id": f"im.{self._clock}",
            "type": kind,
            "body": body,
            "key": key or KEYS[uid],
        }
        await self.publish(f"single/{uid}", message)

    async def publish(self, topic: str, message: dict[str, Any], qos: int = 1) -> None:
        assert self._mqtt is not None
        await self._mqtt.publish(topic, json.dumps(message), qos=qos)

    async def pull(self, request: web.Request) -> web.Response:
        await self.pull_gate.wait()
        self.pulls.append(dict(request.query))
        if self.trouble:
            status, headers = self.trouble.pop(0)
            return web.json_response({"error": {"code": "x", "message": "trouble"}}, status=status, headers=headers)
        uid = request.headers["Authorization"].removeprefix("Bearer ")
        cursor = int(request.query["last_id"])
        reset = request.query.get("epoch", self.epoch) != self.epoch
        later = [entry for entry in self.timelines.get(uid, []) if reset or entry["last_id"] > cursor]
        entries = later[: self.page]
        more = len(later) > len(entries)
        last_id = entries[-1]["last_id"] if more else max(self._clock, 0 if reset else cursor)
        answer = {
            "messages": entries,
            "last_id": last_id,
            "more": more,
            "truncated": False,
            "epoch": self.epoch,
        }
        return web.json_response(answer | {"key": KEYS[uid]} | ({"reset": True} if reset else {}))

    async def start_broker(self) -> None:
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.mqtt_port}"}}
        self._broker = Broker({"listeners": listeners, "plugins": plugins})
        await self._broker.start()
        heard = asyncio.Event()
        self._ears = asyncio.create_task(self._listen(heard))
        await asyncio.wait_for(heard.wait(), 10)

    async def stop_broker(self) -> None:
        assert self._broker is not None
        assert self._ears is not None
        self._ears.cancel()
        await asyncio.wait([self._ears])
        await self._broker.shutdown()

    async def _listen(self, heard: asyncio.Event) -> None:
        async with aiomqtt.Client("127.0.0.1", self.mqtt_port, username="0") as self._mqtt:
            await self._mqtt.subscribe("single/+", qos=1)
            heard.set()
            async for message in self._mqtt.messages:
                assert isinstance(message.payload, bytes)
                await self._hear(str(message.topic), json.loads(message.payload))

    async def _hear(self, topic: str, message: dict[str, Any]) -> None:
        if message.get("from") == "0":
            return
        self.published.append(message)
        if self.deaf:
            return
        uid, sender, client_id = topic.removeprefix("single/"), message["from"], message["id"]
        if uid in self.refuse:
            body = {"ref": client_id, "code": "bad_topic", "message": "no such user"}
            await self.tell(sender, "im.error", body)
            return
        known = [entry for entry in self.timelines.get(uid, []) if (entry["from"], entry["id"]) == (sender, client_id)]
        fields = {name: value for name, value in message.items() if name not in ("id", "from")}
        mid = known[0]["mid"] if known else self.store(uid, sender, client_id, **fields)
        if message.get("ack"):
            await self.tell(sender, "im.ack", {"id": client_id, "mid": mid})


@asynccontextmanager
async def running() -> AsyncIterator[Service]:
    service = Service()
    application = web.Application()
    application.router.add_get("/pull", service.pull)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", service.http_port).start()
    await service.start_broker()
    try:
        yield service
    finally:
        await service.stop_broker()
        await runner.cleanup()
