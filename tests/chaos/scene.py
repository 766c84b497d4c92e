"""Holds what the workloads of a round share: its users, its history, and the ways to the deployment."""

import asyncio
import random
import time
from typing import Any
from uuid import uuid4

import aiohttp
import orjson

from tests.chaos.calls import Answer, Calls
from tests.chaos.deployment import Deployment
from tests.chaos.history import History, Message, Sent
from tests.chaos.pulls import Puller
from tests.integration.app import SECRETS, command_body, message_body

OPERATOR = "ops"

_ADMIN_SILENCE = aiohttp.ClientTimeout(total=10)
_PAUSE_SECONDS = 0.1


class Scene:
    """users: of this round alone. unexpected: what was answered that nobody should be answered, and other surprises.

    lossy: the store may lose something in this round, so commands may be refused that were in order.
    """

    def __init__(
        self, deployment: Deployment, http: aiohttp.ClientSession, name: str, first_uid: int, *, lossy: bool
    ) -> None:
        self.deployment = deployment
        self.http = http
        self.name = name
        self.lossy = lossy
        self.dice = random.Random(name)
        self.history = History()
        self.calls = Calls(deployment.ports["hooks"], SECRETS["hook_token"].split(",")[0])
        self.pullers: list[Puller] = []
        self.pulled: list[float] = []
        """When each pull was answered (monotonic)."""
        self.unexpected: list[str] = []
        self.stopping = asyncio.Event()
        self.acknowledged_otherwise: list[float] = []
        """When a client was told that a message is stored that is compared by its workload (monotonic)."""
        self._uids = iter(range(first_uid, first_uid + 10_000))
        self._numbers = iter(range(1, 2**53))
        self.began_at = time.time_ns() // 1000
        """No message of this round has a lower id."""
        self.events_begin = deployment.events_size()
        """Where in the back end's file the round begins."""

    def new_uid(self) -> str:
        return str(next(self._uids))

    def number(self) -> int:
        """Returns a number that grows from message to message."""
        return next(self._numbers)

    def puller(self, uid: str, device: str = "a") -> Puller:
        """Returns a device of a user whose pulls are judged."""
        return Puller(self, uid, device)

    def compose(self, topic: str, sender: str, stream: str, body: dict[str, Any] | None = None) -> tuple[Sent, bytes]:
        """Returns a new message that is noted as begun, and its payload; one in twenty has no id of its own."""
        number = self.number()
        content = f"{self.name} {number} " + "x" * self.dice.choice((0, 20, 200))
        payload: dict[str, Any] = {"type": "text", "body": {"t": content}, **(body or {})}
        identity = f"{self.name}-{number}"
        if self.dice.random() < 0.95 or "ack" in payload:
            payload["id"] = identity
        else:
            identity = uuid4().hex.upper()
        sent = Sent(Message(topic, sender, identity), stream, number, content, time.monotonic())
        self.history.sent[sent.message] = sent
        return sent, orjson.dumps(payload)

    async def send(self, topic: str, sender: str, client: str, **body: Any) -> Sent:
        """Publishes a message as EMQX hands it over, until it is answered."""
        sent, payload = self.compose(topic, sender, client, body)
        raw = orjson.dumps(message_body(topic, payload, sender, id=sent.message.id, clientid=client))
        self.settle(sent, await self.calls.deliver(client, "message", raw))
        return sent

    def settle(self, sent: Sent, answer: Answer) -> None:
        """Notes what the first copy of a message was answered that was answered for good."""
        if answer.status == 204:
            sent.acknowledged = min(sent.acknowledged, time.monotonic())
            return
        sent.refused = answer.status == 400
        if answer.status and not (sent.refused and self.lossy):
            self.unexpected.append(f"{answer.status} for {sent.message}: {answer.body!r}")

    async def command(self, topic: str, sender: str, client: str, **fields: Any) -> Answer:
        """Publishes a command as EMQX hands it over, until it is answered."""
        payload = {"id": f"{self.name}-c{self.number()}", **fields}
        raw = orjson.dumps(command_body(topic, payload, sender, clientid=client))
        return await self.calls.deliver(client, "group", raw)

    async def admin(self, method: str, path: str, **request: Any) -> int:
        """Calls `/admin` until it is answered with anything but a failure that passes; returns the status, or 0 once
        the round gives up.
        """
        headers = {"Authorization": f"Bearer {SECRETS['admin_token']}"}
        url = f"{self.deployment.url('hooks')}/admin/{path}"
        while not self.calls.given_up.is_set():
            try:
                async with self.http.request(method, url, headers=headers, timeout=_ADMIN_SILENCE, **request) as answer:
                    await answer.read()
                    if answer.status not in (429, 502, 503):
                        return answer.status
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(_PAUSE_SECONDS)
        return 0
