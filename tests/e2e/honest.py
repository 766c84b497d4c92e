"""The ground that attackers and honest users share, and a pair of users who go on talking whatever happens to it."""

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import aiohttp

from tests.e2e.stack import Service, Stack
from tests.e2e.test_groups import Phone, phone
from tests.e2e.waiting import until

SECONDS = 60
"""Seconds of patience on a loaded machine; nothing is judged by it."""


class Ground:
    """One running stack. public_port: where phones pull, if that is a separate port."""

    def __init__(
        self, stack: Stack, http: aiohttp.ClientSession, public_port: int | None, new_user: Callable[[], int]
    ) -> None:
        self.stack = stack
        self.new_user = new_user
        self.pull_port = public_port or stack.http_port
        self.http = http
        self.service = Service(stack, http)
        self._held = contextlib.ExitStack()

    def to(self, topic: str) -> str:
        """Returns where users publish what is for this topic."""
        return f"send/{topic}" if self.stack.trusted_send else topic

    async def connected(self, sent: bytes = b"") -> socket.socket:
        """Returns a connection to phones' port, open until `release`; little of what comes fits into its kernel."""
        connection = self._held.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self.pull_port))
        with contextlib.suppress(ConnectionError):  # the service may have ended it already
            await loop.sock_sendall(connection, sent)
        return connection

    def release(self) -> None:
        """Lets go of what attackers hold."""
        self._held.close()

    async def pull(self, token: str, last_id: int = 0) -> tuple[int, dict[str, Any]]:
        """Status and answer, on a new connection."""
        url = f"http://127.0.0.1:{self.pull_port}/pull?last_id={last_id}&limit=1000"
        async with self.http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status, await answer.json()

    async def metric(self, name: str) -> float:
        """0 while it has not been counted."""
        async with self.http.get(f"{self.stack.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    async def counts(self, name: str, least: float) -> None:
        """Returns once it is no less."""

        async def enough() -> bool | None:
            return await self.metric(name) >= least or None

        await until(enough, SECONDS)


def content(payload: dict[str, Any]) -> dict[str, Any]:
    """Returns what a user sent, whether or not the broker says who it was."""
    found: dict[str, Any] = payload.get("message", payload)
    return found


def heard(device: Phone) -> list[str]:
    """Returns the ids of all messages, in their order."""
    return [content(payload).get("id", "") for _, payload in device.heard]


def errors(device: Phone) -> list[dict[str, Any]]:
    """Returns the bodies of what the device was told by `im.error`."""
    return [payload["body"] for _, payload in device.heard if payload.get("type") == "im.error"]


async def acknowledged(device: Phone, client_id: str) -> None:
    async def told() -> bool | None:
        acks = [payload["body"]["id"] for _, payload in device.heard if payload.get("type") == "im.ack"]
        return client_id in acks or None

    await until(told, SECONDS)


async def hears(device: Phone, client_id: str) -> None:
    async def there() -> bool | None:
        return client_id in heard(device) or None

    await until(there, SECONDS)


class Pair:
    """Two users with a device each, and a group of theirs."""

    def __init__(self, ground: Ground, ann: tuple[int, Phone], bob: tuple[int, Phone]) -> None:
        self._ground = ground
        (self.ann, self.anns), (self.bob, self.bobs) = ann, bob
        self.topic = f"group/{uuid4().int >> 75}"
        self._rounds = 0
        self._pulling = asyncio.Lock()
        self._cursors: dict[int, int] = defaultdict(int)
        self.pulled: dict[int, list[tuple[str, str]]] = defaultdict(list)
        """By user: senders and ids, in the order of the timeline."""

    async def meet(self) -> None:
        await self.anns.publish(f"{self.topic}/create", members=[self.bob])
        for device, kind in ((self.anns, "im.group.created"), (self.bobs, "im.group.invite")):
            await device.hears(kind)
            assert await device.subscribe(self.topic)

    async def talk(self) -> None:
        """Both write to the other and to the group: acknowledged, heard, and pulled once, in order."""
        self._rounds += 1
        sent = [
            (uid, device, topic, f"honest {uid} {self._rounds} {topic[:5]}")
            for uid, device, other in ((self.ann, self.anns, self.bob), (self.bob, self.bobs, self.ann))
            for topic in (f"single/{other}", self.topic)
        ]
        for _, device, topic, client_id in sent:
            await device.publish(self._ground.to(topic), id=client_id, type="text", body="hello", ack=True)
        for uid, device, _, client_id in sent:
            await acknowledged(device, client_id)
            await hears(self.bobs if uid == self.ann else self.anns, client_id)
        for uid in (self.ann, self.bob):
            await self.pull(uid)
            theirs = [one for one in self.pulled[uid] if one[1].startswith("honest ")]
            assert len(theirs) == len(set(theirs)) == len(sent) * self._rounds
            assert {(str(sender), client_id) for sender, _, _, client_id in sent} == set(theirs[-len(sent) :])

    async def pull(self, uid: int) -> None:
        """Returns what is new."""
        async with self._pulling:
            more = True
            while more:
                status, page = await self._ground.pull(self._ground.stack.token(uid), self._cursors[uid])
                assert status == 200, page
                self.pulled[uid] += [(each["from"], each["id"]) for each in page["messages"]]
                self._cursors[uid], more = page["last_id"], page["more"]


@contextlib.asynccontextmanager
async def honest_pair(ground: Ground) -> AsyncIterator[Pair]:
    ann, bob = ground.new_user(), ground.new_user()
    async with phone(ground.stack, ann) as anns, phone(ground.stack, bob) as bobs:
        pair = Pair(ground, (ann, anns), (bob, bobs))
        await pair.meet()
        yield pair
