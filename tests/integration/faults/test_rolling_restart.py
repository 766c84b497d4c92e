"""Two `emqx-im serve` replaced one after the other under load, called as EMQX calls: nothing lost, nothing reordered.

EMQX's side is the action that `emqx-im dev` has: a queue and one request in flight for each client, tried again at 429,
503 and a broken connection, dropped for ever at any other status.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from random import Random
from uuid import uuid4

import aiohttp
import orjson
import pytest

from hooks.dev.webhook import WebhookCaller
from tests.integration.app import SECRETS, command_body, message_body, new_uid, until
from tests.integration.events.back_end import SECRET, BackEnd, running_back_end
from tests.integration.faults.brokered import Brokered, member
from tests.integration.faults.load import Device
from tests.integration.served import Served
from tests.servers import RedisServer, valkey_program
from tests.stream_server import pump, stream_server

SENDERS = 8
PAUSE_SECONDS = 0.005
DRAIN_SECONDS = 60


class Balancer:
    """One address for all processes, as a Kubernetes service: a connection goes to one of `ports` and stays there."""

    def __init__(self, ports: list[int], chance: Random) -> None:
        self.ports = ports
        self._chance = chance

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Where nobody listens any more the connection breaks, and the caller tries again."""
        answers, requests = await asyncio.open_connection("127.0.0.1", self._chance.choice(self.ports))
        try:
            await asyncio.gather(pump(reader, requests), pump(answers, writer))
        finally:
            requests.close()


class Sender:
    """A user whose broker passes on what they send: to one receiver, and to groups that they create meanwhile."""

    def __init__(self, webhook: WebhookCaller, receiver: str, pause: float = PAUSE_SECONDS) -> None:
        self.uid = new_uid()
        self._pause = pause
        self._webhook = webhook
        self._receiver = receiver
        self._stopping = False
        self.sent: list[str] = []

    async def send(self) -> None:
        group = 0
        while not self._stopping:
            if len(self.sent) % 50 == 0:
                group = uuid4().int >> 75
                self._put(command_body(f"group/{group}/create", {"id": "c", "members": [self._receiver]}, self.uid))
            topic = f"group/{group}" if len(self.sent) % 10 == 1 else f"single/{self._receiver}"
            client_id = f"{self.uid}-{len(self.sent)}"
            self._put(message_body(topic, {"id": client_id, "body": len(self.sent)}, self.uid))
            self.sent.append(client_id)
            await asyncio.sleep(self._pause)

    def stop(self) -> None:
        self._stopping = True

    def _put(self, body: dict[str, object]) -> None:
        self._webhook.put(f"{self.uid}-phone", str(body["hook"]), orjson.dumps(body))


class Rolling:
    """Processes on one Redis and one archive, behind one address."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self._directory = directory
        self._redis_url = redis_url
        self._number = 0
        self.archive = directory / "archive.db"
        self.settings: dict[str, str] = {}

    async def another(self) -> Served:
        """Starts a further process; returns it once it serves."""
        self._number += 1
        archive_url = f"sqlite:///{self.archive}"
        directory = self._directory / f"serve-{self._number}"
        served = Served(directory, self._redis_url, archive_url=archive_url, **self.settings)
        await served.wait_for("serving")
        return served

    def archived(self) -> list[str]:
        """Returns the client ids of every archived message."""
        with closing(sqlite3.connect(f"file:{self.archive}?mode=ro", uri=True)) as archive:
            return [str(row[0]) for row in archive.execute("SELECT client_id FROM message")]


class Talker:
    """A member who sends to a group all the time, each message on a new connection, and again for ten seconds."""

    def __init__(self, brokered: Brokered, topic: str) -> None:
        self.uid = new_uid()
        self._brokered = brokered
        self._topic = topic
        self._stopping = False
        self.sent: list[str] = []
        self.lost: list[str] = []

    async def talk(self) -> None:
        while not self._stopping:
            client_id = f"{self.uid}-{len(self.sent)}"
            async with member(self._brokered, self.uid, device=client_id) as connection:
                if not await connection.send(self._topic, client_id):
                    self.lost.append(client_id)
            self.sent.append(client_id)

    def stop(self) -> None:
        self._stopping = True


@pytest.fixture
async def rolling(tmp_path: Path) -> AsyncIterator[Rolling]:
    redis = RedisServer(tmp_path / "valkey", valkey_program())
    redis.start()
    yield Rolling(tmp_path, redis.url)
    redis.kill()


announcements = pytest.mark.parametrize(
    "announced", [True, False], ids=["after it left the balancer", "without a word"]
)


@announcements
async def test_a_rolling_restart_loses_and_reorders_nothing(rolling: Rolling, chance: Random, announced: bool) -> None:
    async with AsyncExitStack() as stack:
        running, balancer, url = await _balanced(stack, rolling, chance)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        webhook = WebhookCaller(http, url, SECRETS["hook_token"].split(",")[0])

        receiver = new_uid()
        device = Device(http, url, receiver, chance)
        device.start()
        stack.push_async_callback(device.cancel)
        senders = [Sender(webhook, receiver) for _ in range(SENDERS)]
        sending = [asyncio.create_task(sender.send()) for sender in senders]
        for old in list(running):
            await _more(device)
            await _replace(rolling, balancer, running, old, announced=announced)
        await _more(device)
        for sender in senders:
            sender.stop()
        await asyncio.gather(*sending)
        await webhook.drain(DRAIN_SECONDS)
        await device.stop()
        await device.to_the_end()

        for sender in senders:
            assert [message.id for message in device.held if message.sender == sender.uid] == sender.sent
        anew = Device(http, url, receiver, chance)
        await anew.to_the_end()
        assert list(anew.held) == list(device.held)
        await _stop(running)
    sent = [client_id for sender in senders for client_id in sender.sent]
    assert sorted(client_id for client_id in rolling.archived() if not client_id.startswith("im.")) == sorted(sent)


@pytest.mark.parametrize("ends", ["after it left the balancer", "without a word", "by kill -9"])
async def test_events_come_in_order_over_a_rolling_restart(rolling: Rolling, chance: Random, ends: str) -> None:
    """The back end hears of every message, and of its receiver who is away; in order, whichever process delivers."""
    async with AsyncExitStack() as stack:
        back_end = await stack.enter_async_context(running_back_end())
        kinds = "message.stored,message.offline"
        rolling.settings = {"events_url": back_end.url, "events_secret": SECRET, "events": kinds}
        running, balancer, url = await _balanced(stack, rolling, chance)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        webhook = WebhookCaller(http, url, SECRETS["hook_token"].split(",")[0])

        receiver = new_uid()
        senders = [Sender(webhook, receiver, pause=0.05) for _ in range(2)]
        sending = [asyncio.create_task(sender.send()) for sender in senders]
        for old in list(running):
            await _told(back_end, _count(back_end) + 50)
            if ends == "by kill -9":
                old.kill()
                balancer.ports.remove(old.port)
                running[running.index(old)] = replacement = await rolling.another()
                balancer.ports.append(replacement.port)
            else:
                await _replace(rolling, balancer, running, old, announced=ends == "after it left the balancer")
        await _told(back_end, _count(back_end) + 50)
        for sender in senders:
            sender.stop()
        await asyncio.gather(*sending)
        await webhook.drain(DRAIN_SECONDS)

        sent = sum(len(sender.sent) for sender in senders)
        await _told(back_end, 2 * sent)
        for kind in ("message.stored", "message.offline"):
            told = back_end.taken(kind)
            assert len(told) == sent
            for sender in senders:
                assert [each["payload"]["id"] for each in told if each["from"] == sender.uid] == sender.sent
        await _stop(running)


async def _told(back_end: BackEnd, count: int) -> None:
    """Returns once so many events were taken, each counted once."""

    async def told() -> bool:
        return _count(back_end) >= count

    await until(told, 60)


def _count(back_end: BackEnd) -> int:
    return len({each["id"] for each in back_end.events})


async def _balanced(stack: AsyncExitStack, rolling: Rolling, chance: Random) -> tuple[list[Served], Balancer, str]:
    """Starts two processes behind one address, until the stack ends; returns the address, too."""
    running = [await rolling.another(), await rolling.another()]
    stack.callback(_kill, running)
    balancer = Balancer([served.port for served in running], chance)
    port = await stack.enter_async_context(stream_server(balancer.serve))
    return running, balancer, f"http://127.0.0.1:{port}"


async def _stop(running: list[Served]) -> None:
    """Stops those that are left: no call was given up."""
    for served in running:
        assert served.lines("hook_failed") == []
        assert await served.stop() == 0


def _kill(running: list[Served]) -> None:
    for served in running:
        served.kill()


async def _more(device: Device) -> None:
    """Returns once the device was given some more messages."""
    count = len(device.held) + 50

    async def given() -> bool:
        return len(device.held) >= count

    await until(given, 60)


@announcements
async def test_members_on_new_connections_lose_nothing_that_they_send_again(
    rolling: Rolling, chance: Random, announced: bool
) -> None:
    """They are asked about at each; and what nobody decided, the broker keeps as a denial."""
    brokered = Brokered()
    rolling.settings = brokered.settings
    async with AsyncExitStack() as stack:
        running, balancer, url = await _balanced(stack, rolling, chance)
        await stack.enter_async_context(brokered.running(url))

        owner, topic = new_uid(), f"group/{new_uid()}"
        talkers = [Talker(brokered, topic) for _ in range(SENDERS)]
        async with member(brokered, owner) as making:
            await making.publish(f"{topic}/create", members=[talker.uid for talker in talkers])
            await making.hears("im.group.created")
        talking = [asyncio.create_task(talker.talk()) for talker in talkers]
        for old in list(running):
            await _talked(talkers)
            await _replace(rolling, balancer, running, old, announced=announced)
        await _talked(talkers)
        for talker in talkers:
            talker.stop()
        await asyncio.gather(*talking)
        assert [talker.lost for talker in talkers] == [[] for _ in talkers]
        await _stop(running)
    sent = [client_id for talker in talkers for client_id in talker.sent]
    assert set(sent) <= set(rolling.archived())


async def _talked(talkers: list[Talker]) -> None:
    """Returns once each has sent some more."""
    counts = [len(talker.sent) + 5 for talker in talkers]

    async def enough() -> bool:
        return all(len(talker.sent) >= count for talker, count in zip(talkers, counts, strict=True))

    await until(enough, 60)


async def _replace(
    rolling: Rolling, balancer: Balancer, running: list[Served], old: Served, *, announced: bool
) -> None:
    """A new process takes the place of an old one; `announced`: which has left the balancer before it stops."""
    running.append(replacement := await rolling.another())
    balancer.ports.append(replacement.port)
    if announced:
        balancer.ports.remove(old.port)
    old.terminate()
    assert await old.ended() == 0, old.log
    if not announced:
        balancer.ports.remove(old.port)
    running.remove(old)
