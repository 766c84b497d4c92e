"""A model of the service for the client library: a real broker in this process and a tiny store."""

import asyncio
import json
import socket
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, TypeVar

import aiohttp
import jwt
from aiohttp import web

from hooks.dev.acl import Acl
from hooks.dev.authorization import Authorizer
from hooks.dev.broker import EmbeddedBroker
from hooks.dev.events import EventMessage
from hooks.dev.login import EmbeddedLogin
from hooks.dev.packets import NOT_AUTHORIZED, ConnectRefused
from hooks.dev.rules import EvaluatedRules
from hooks.dev.webhook import WebhookCaller
from tests import webserver
from tests.integration.client.pulls import Pulls
from tests.servers import free_port

SECRET = "a secret of the tests that is long enough"


def key(uid: str) -> str:
    return f"secret-{uid}"


def token(uid: int, seconds: int = 600) -> str:
    return jwt.encode({"sub": str(uid), "exp": int(time.time()) + seconds}, SECRET, "HS256")


class Service(Pulls):
    """Stores what is published to `single/+` and groups unless it is deaf.

    refuse: receivers to whom nothing is stored; budget: the next messages are refused with `rate` and so many seconds;
    denied: topics that the authorizer denies; questions: what it was asked. refused_logins: how many of the next ones
    the broker refuses, as one does that starts. groups: which topics a user's devices are told to subscribe.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mqtt_port = free_port()
        self.ws_port = free_port()
        self.http_port = free_port()
        self.epoch = "first"
        self.deaf = False
        self.writes_wait = False
        """The state of the store that pages report: with `deaf` it is full."""
        self.page = 200
        self.refuse: set[str] = set()
        self.budget: list[float] = []
        self.denied: set[str] = set()
        self.questions: list[tuple[str, str, str]] = []
        self.connects: list[str] = []
        self.refused_logins = 0
        self.groups: dict[str, list[str]] = {}
        self.question_seconds = 0.0
        """The time that the authorizer needs for each question; it answers one at a time."""
        self._answering = asyncio.Lock()
        self.published: list[dict[str, Any]] = []
        self.timelines: dict[str, list[dict[str, Any]]] = {}
        self._clock = 0

    @property
    def head(self) -> int:
        return self._clock

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def token(self, uid: int, seconds: int = 600) -> str:
        return token(uid, seconds)

    def store(self, uid: str, sender: str, client_id: str, *, topic: str | None = None, **fields: Any) -> int:
        """Stores a message in the timeline of `uid`, without live delivery. topic: of a message that `uid` sent."""
        self._clock += 1
        self.timelines.setdefault(uid, []).append(
            {
                **{"last_id": self._clock, "mid": self._clock, "from": sender},
                "topic": topic or f"single/{uid}",
                **{"id": client_id, "qos": 1, "ts": self._clock},
                "payload": {"id": client_id, "from": sender, **fields},
            }
        )
        return self._clock

    def tell(self, uid: str, kind: str, body: dict[str, Any], secret: str | None = None) -> None:
        """A control message, live."""
        message = {
            "from": "0",
            "id": f"im.{self._clock}",
            "type": kind,
            "body": body,
            "key": secret or key(uid),
        }
        self.publish(f"single/{uid}", message)

    def publish(self, topic: str, message: dict[str, Any], qos: int = 1) -> None:
        self._broker.publish(
            EventMessage(topic=topic, payload=json.dumps(message).encode(), qos=qos, clientid="http_api")
        )

    def uid_of(self, request: web.Request) -> str:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        return str(jwt.decode(token, SECRET, algorithms=["HS256"])["sub"])

    async def page_for(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(self.answer_for(request))
        except jwt.InvalidTokenError:
            return web.json_response({"error": {"code": "unauthorized", "message": "no"}}, status=401)

    def answer_for(self, request: web.Request) -> dict[str, Any]:
        uid = self.uid_of(request)
        cursor = int(request.query["last_id"])
        reset = request.query.get("epoch", self.epoch) != self.epoch
        later = [entry for entry in self.timelines.get(uid, []) if reset or entry["last_id"] > cursor]
        entries = later[: min(self.page, int(request.query["limit"]))]
        more = len(later) > len(entries)
        last_id = entries[-1]["last_id"] if more else max(self._clock, 0 if reset else cursor)
        answer = {
            "messages": entries,
            "last_id": last_id,
            "more": more,
            "truncated": False,
            "epoch": self.epoch,
        }
        flags = {"reset": reset, "writes_wait": self.writes_wait}
        return answer | {"key": key(uid)} | {name: True for name, on in flags.items() if on}

    async def start_broker(self) -> None:
        """On the port it had before, with nothing left of its sessions."""
        self._http = aiohttp.ClientSession()
        acl = Acl.parse((files("hooks") / "rules" / "acl.conf").read_text())
        webhook = WebhookCaller(self._http, self.url, "hook-token")
        self._broker = EmbeddedBroker(
            self.rules(), webhook, self._login(), Authorizer(acl, self._http, self.url, "hook-token")
        )
        await self._broker.start(
            socket.create_server(("127.0.0.1", self.mqtt_port)), socket.create_server(("127.0.0.1", self.ws_port))
        )

    def rules(self) -> EvaluatedRules:
        return EvaluatedRules.load(files("hooks") / "rules")

    def _login(self) -> EmbeddedLogin:
        service = self

        class Starting(EmbeddedLogin):
            async def check(self, username: str | None, password: str | None) -> int | None:
                if service.refused_logins:
                    service.refused_logins -= 1
                    raise ConnectRefused(NOT_AUTHORIZED, "not_authorized")
                return await super().check(username, password)

        return Starting(SECRET)

    @property
    def broker(self) -> EmbeddedBroker:
        return self._broker

    async def stop_broker(self) -> None:
        await self._broker.stop()
        await self._http.close()

    async def authorize(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.questions.append((asked["username"], asked["action"], asked["topic"]))
        if self.question_seconds:
            async with self._answering:
                await asyncio.sleep(self.question_seconds)
        return web.json_response({"result": "deny" if asked["topic"] in self.denied else "allow"})

    async def hear(self, request: web.Request) -> web.Response:
        event = await request.json()
        if request.path == "/hooks/message":
            self._hear(event["topic"], json.loads(b64decode(event["payload_b64"])))
        elif event["event"] == "client.connected":
            self.connects.append(event["clientid"])
        elif event["event"] == "session.subscribed":
            uid = event["username"]
            if topics := self.groups.get(uid):
                body = {"topics": [{"topic": topic, "qos": 1} for topic in topics], "head": self._clock}
                self.tell(uid, "im.subscribe", body)
        return web.Response(status=204)

    def _hear(self, topic: str, message: dict[str, Any]) -> None:
        self.published.append(message)
        if self.deaf:
            return
        uid, sender, client_id = topic.removeprefix("single/"), message["from"], message["id"]
        if self.budget:
            body = {"ref": client_id, "code": "rate", "message": "too much", "retry_after": self.budget.pop(0)}
            self.tell(sender, "im.error", body)
            return
        if uid in self.refuse:
            body = {"ref": client_id, "code": "bad_topic", "message": "no such user"}
            self.tell(sender, "im.error", body)
            return
        known = [entry for entry in self.timelines.get(uid, []) if (entry["from"], entry["id"]) == (sender, client_id)]
        fields = {name: value for name, value in message.items() if name not in ("id", "from")}
        mid = known[0]["mid"] if known else self.store(uid, sender, client_id, **fields)
        if message.get("ack"):
            self.tell(sender, "im.ack", {"id": client_id, "mid": mid})


@asynccontextmanager
async def running() -> AsyncIterator[Service]:
    async with serving(Service()) as service:
        yield service


S = TypeVar("S", bound=Service)


@asynccontextmanager
async def serving(service: S) -> AsyncIterator[S]:
    application = web.Application()
    service.routes(application)
    application.router.add_post("/hooks/authz", service.authorize)
    application.router.add_post("/hooks/{hook}", service.hear)
    async with webserver.serving(application, service.http_port, shutdown_seconds=0.1):
        await service.start_broker()
        try:
            yield service
        finally:
            await service.stop_broker()
