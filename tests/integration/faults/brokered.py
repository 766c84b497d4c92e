"""The broker of `emqx-im dev` in front of `emqx-im serve`, and members who send and listen through it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any
from uuid import uuid4

import aiohttp
import aiomqtt
import orjson

from hooks.dev.acl import Acl
from hooks.dev.authorization import Authorizer
from hooks.dev.broker import EmbeddedBroker
from hooks.dev.login import EmbeddedLogin
from hooks.dev.rest import application
from hooks.dev.rules import EvaluatedRules
from hooks.dev.webhook import WebhookCaller
from tests.integration.app import JWT_SECRET, SECRETS, token
from tests.integration.dev.conftest import bound
from tests.webserver import serving

RESEND_SECONDS = 0.5
PATIENCE_SECONDS = 10.0
"""How long a member sends a message again before giving it up."""


class Brokered:
    """A broker whose hooks and questions go to one address, and its REST API."""

    def __init__(self) -> None:
        self._sockets = [bound(), bound(), bound()]
        self.mqtt_port, _, api = (each.getsockname()[1] for each in self._sockets)
        self.settings = {"emqx_api_url": f"http://127.0.0.1:{api}", "emqx_api_key": "key"}
        self.broker: EmbeddedBroker

    @asynccontextmanager
    async def running(self, url: str) -> AsyncIterator[None]:
        """url: the service's address."""
        hook_token = SECRETS["hook_token"].split(",")[0]
        directory = files("hooks") / "rules"
        mqtt, websocket, api = self._sockets
        async with aiohttp.ClientSession() as http:
            webhook = WebhookCaller(http, url, hook_token)
            authorizer = Authorizer(Acl.parse((directory / "acl.conf").read_text()), http, url, hook_token)
            self.broker = EmbeddedBroker(EvaluatedRules.load(directory), webhook, EmbeddedLogin(JWT_SECRET), authorizer)
            await self.broker.start(mqtt, websocket)
            async with serving(application(self.broker, "key", SECRETS["emqx_api_secret"]), api):
                try:
                    yield
                finally:
                    await self.broker.stop()
                    await webhook.drain(5)


class Member:
    """One connection of a user's, subscribed to the user's own topic."""

    def __init__(self, uid: str, client: aiomqtt.Client) -> None:
        self.uid = uid
        self._client = client
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((message.topic.value, orjson.loads(message.payload)))
            self._changed.set()

    async def subscribe(self, topic: str) -> bool:
        """Returns whether the broker grants it."""
        (granted,) = await self._client.subscribe(topic, qos=1, timeout=60)
        return getattr(granted, "value", granted) == 1

    async def publish(self, topic: str, **fields: Any) -> str:
        """Returns the message's id."""
        client_id = str(fields.setdefault("id", uuid4().hex))
        await self._client.publish(topic, orjson.dumps(fields), qos=1, timeout=60)
        return client_id

    async def send(self, topic: str, client_id: str) -> bool:
        """Sends a message, again and again, until it is durable: whether it was in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    await self.publish(topic, id=client_id, ack=True)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(RESEND_SECONDS):
                            await self.hears("im.ack", id=client_id)
                            return True
        return False

    async def hears(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Returns the body of the first control message of this kind, with these fields in it."""
        while True:
            for _, payload in self.heard:
                if payload.get("type") == kind and fields.items() <= payload["body"].items():
                    body: dict[str, Any] = payload["body"]
                    return body
            self._changed.clear()
            await self._changed.wait()

    async def hears_on(self, topic: str, client_id: str) -> None:
        while not any((on, payload.get("id")) == (topic, client_id) for on, payload in self.heard):
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def member(brokered: Brokered, uid: str, device: str = "phone") -> AsyncIterator[Member]:
    client = aiomqtt.Client(
        "127.0.0.1",
        brokered.mqtt_port,
        username=uid,
        password=token(uid),
        identifier=device,
        protocol=aiomqtt.ProtocolVersion.V311,
        timeout=60,
    )
    async with client:
        connected = Member(uid, client)
        listening = asyncio.create_task(connected.listen())
        try:
            assert await connected.subscribe(f"single/{uid}")
            yield connected
        finally:
            listening.cancel()
            await asyncio.wait([listening])
