"""The embedded broker with a stand-in for the service behind it, and clients for it."""

import asyncio
import base64
import hmac
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import aiohttp
import aiomqtt
import jwt
import orjson
import pytest
from aiohttp import web
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader

from hooks.dev.acl import Acl
from hooks.dev.authorization import Authorizer
from hooks.dev.broker import EmbeddedBroker
from hooks.dev.connection import Connection
from hooks.dev.faults import Faults
from hooks.dev.login import EmbeddedLogin
from hooks.dev.packets import Will
from hooks.dev.rest import application
from hooks.dev.rules import EvaluatedRules
from hooks.dev.webhook import WebhookCaller
from tests.servers import free_port
from tests.webserver import serving

SECRET = "a secret for tests that is long enough"
TOKEN = "hook-token"


async def until(condition: Callable[[], bool], what: str = "", seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        await asyncio.sleep(0.01)


def token(username: str, **claims: Any) -> str:
    return jwt.encode({"sub": username, "exp": int(time.time()) + 6000} | claims, SECRET, algorithm="HS256")


def signed(payload: bytes, head: bytes = b'{"alg":"HS256"}', secret: str = SECRET) -> str:
    """Returns a token with any header and any claims."""
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, payload))
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), parts, "sha256")).rstrip(b"=")
    return b".".join((parts, signature)).decode()


def bound(port: int = 0) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port or free_port()))
    return listener


async def _ok(hook: str, body: dict[str, Any]) -> int:
    return 204


async def _allow(question: dict[str, Any]) -> web.Response:
    return web.json_response({"result": "allow"})


async def received(client: aiomqtt.Client, count: int) -> list[tuple[str, bytes, int]]:
    messages = []
    async with asyncio.timeout(10):
        async for message in client.messages:
            messages.append((message.topic.value, bytes(message.payload), message.qos))
            if len(messages) == count:
                break
    return messages


@dataclass
class FakeService:
    """Keeps what it is asked; `answer` and `authorize` may be set."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[str, dict[str, Any]], Awaitable[int]] = _ok
    authorize: Callable[[dict[str, Any]], Awaitable[web.Response]] = _allow

    async def hook(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        body = orjson.loads(await request.read())
        if request.match_info["hook"] == "authz":
            self.questions.append(body)
            return await self.authorize(body)
        status = await self.answer(request.match_info["hook"], body)
        if status == 204:
            self.calls.append((request.match_info["hook"], body))
        return web.Response(status=status)

    def of(self, clientid: str) -> list[str]:
        """Returns what the service heard of a client, shortly."""
        return [_short(hook, body) for hook, body in self.calls if body["clientid"] == clientid]


def _short(hook: str, body: dict[str, Any]) -> str:
    if hook != "client":
        return f"{hook} {body['topic']}"
    event = str(body["event"])
    return f"{event} {body['reason']}" if event == "client.disconnected" else event


@dataclass
class Embedded:
    broker: EmbeddedBroker
    webhook: WebhookCaller
    service: FakeService
    http: aiohttp.ClientSession
    service_port: int
    mqtt_port: int
    ws_port: int
    api: str

    def client(self, username: str, device: str = "phone", **options: Any) -> aiomqtt.Client:
        given: dict[str, Any] = {
            "hostname": "127.0.0.1",
            "port": self.mqtt_port,
            "identifier": device,
            "username": username,
            "password": token(username),
            "protocol": aiomqtt.ProtocolVersion.V311,
            "timeout": 5,
        }
        return aiomqtt.Client(**(given | options))

    @property
    def faults(self) -> Faults:
        """Returns what EMQX was seen to do wrong; a test may switch it on at any time."""
        return self.broker.faults

    def connection(self, clientid: str) -> Connection:
        """Returns the connection of a client that is there."""
        held = self.broker.sessions[clientid].connection
        assert isinstance(held, Connection)
        return held

    async def raw(self, username: str, device: str = "raw", **options: Any) -> "RawClient":
        """Logged in, over a bare socket."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.mqtt_port)
        client = RawClient(reader, writer)
        await client.send(connect_packet(username, device, **options))
        assert await client.receive() == b"\x20\x00\x00"
        return client


@dataclass
class RawClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """First byte and body of the next packet; empty when the broker has closed."""
        async with asyncio.timeout(10):
            try:
                head = await self.reader.readexactly(2)
                return head[:1] + await self.reader.readexactly(head[1])
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return b""

    def abort(self) -> None:
        """As when the device dies: the connection is reset."""
        self.writer.transport.abort()


def connect_packet(
    username: str,
    device: str,
    *,
    password: str | None = None,
    keepalive: int = 0,
    clean: bool = True,
    level: int = 4,
    will: Will | None = None,
) -> bytes:
    head = ConnectVariableHeader(0, keepalive, "MQTT", level)
    head.username_flag = head.password_flag = True
    head.clean_session_flag = clean
    payload = ConnectPayload(device, username=username, password=password or token(username))
    if will:
        head.will_flag, head.will_qos, head.will_retain_flag = True, will.qos, will.retain
        payload.will_topic, payload.will_message = will.topic, will.payload
    packet: bytes = ConnectPacket(variable_header=head, payload=payload).to_bytes()
    return packet


@pytest.fixture
async def embedded() -> AsyncIterator[Embedded]:
    """A broker with the shipped rules and ACL file."""
    service = FakeService()
    application_of_service = web.Application()
    application_of_service.router.add_post("/hooks/{hook}", service.hook)
    service_socket, mqtt, websocket, api = bound(), bound(), bound(), bound()
    service_port = service_socket.getsockname()[1]
    directory = files("hooks") / "rules"
    async with serving(application_of_service, service_socket) as url, aiohttp.ClientSession() as http:
        webhook = WebhookCaller(http, url, TOKEN)
        authorizer = Authorizer(Acl.parse((directory / "acl.conf").read_text()), http, url, TOKEN)
        broker = EmbeddedBroker(EvaluatedRules.load(directory), webhook, EmbeddedLogin(SECRET), authorizer)
        await broker.start(mqtt, websocket)
        async with serving(application(broker, "key", "secret"), api) as address:
            ports = mqtt.getsockname()[1], websocket.getsockname()[1]
            yield Embedded(broker, webhook, service, http, service_port, *ports, f"{address}/api/v5")
            await broker.stop()
            await webhook.drain(1)
