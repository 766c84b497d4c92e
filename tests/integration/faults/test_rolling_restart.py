"""Two `emqx-im serve` replaced one after the other under load, called as EMQX calls: nothing lost, nothing reordered.

EMQX's side is the action that `emqx-im dev` has: a queue and one request in flight for each client, tried again at 429,
503 and a broken connection, dropped for ever at any other status.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from random import Random
from uuid import uuid4

import aiohttp
import orjson
import pytest

from hooks.embedded.webhook import Webhook
from tests.integration.app import SECRETS, command_body, message_body, new_uid, until
from tests.integration.faults.load import Device
from tests.integration.served import Served
from tests.servers import RedisServer, valkey_program

SENDERS = 8
PAUSE_SECONDS = 0.005
DRAIN_SECONDS = 60


class Balancer:
    """One address for all processes, as a Kubernetes service: a connection goes to one of `ports` and stays there."""

    def __init__(self, ports: list[int], chance: Random) -> None:
        self.ports = ports
        self._chance = chance

    async def start(self) -> int:
        """The port it listens on."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Where nobody listens any more the connection breaks, and the caller tries again."""
        with contextlib.suppress(OSError):
            answers, requests = await asyncio.open_connection("127.0.0.1", self._chance.choice(self.ports))
            one, other = asyncio.create_task(_pump(reader, requests)), asyncio.create_task(_pump(answers, writer))
            await asyncio.wait({one, other})
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


class Sender:
    """A user whose broker passes on what he sends: to one receiver, and to groups that he makes on the way."""

    def __init__(self, webhook: Webhook, receiver: str) -> None:
        self.uid = new_uid()
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
            await asyncio.sleep(PAUSE_SECONDS)

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

    async def another(self) -> Served:
        """A further process, once it serves."""
        self._number += 1
        archive_url = f"sqlite:///{self.archive}"
        served = Served(self._directory / f"serve-{self._number}", self._redis_url, archive_url=archive_url)
        await served.wait_for("serving")
        return served

    def archived(self) -> list[str]:
        """The client ids of every archived message."""
        with closing(sqlite3.connect(f"file:{self.archive}?mode=ro", uri=True)) as archive:
            return [str(row[0]) for row in archive.execute("SELECT client_id FROM message")]


@pytest.fixture
async def rolling(tmp_path: Path) -> AsyncIterator[Rolling]:
    redis = RedisServer(tmp_path / "valkey", valkey_program())
    redis.start()
    yield Rolling(tmp_path, redis.url)
    redis.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("announced", [True, False], ids=["after it left the balancer", "without a word"])
async def test_a_rolling_restart_loses_and_reorders_nothing(rolling: Rolling, chance: Random, announced: bool) -> None:
    async with AsyncExitStack() as stack:
        running = [await rolling.another(), await rolling.another()]
        stack.callback(_kill, running)
        balancer = Balancer([served.port for served in running], chance)
        url = f"http://127.0.0.1:{await balancer.start()}"
        stack.callback(balancer.stop)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        webhook = Webhook(http, url, SECRETS["hook_token"].split(",")[0])

        receiver = new_uid()
        device = Device(http, url, receiver, chance)
        device.start()
        stack.push_async_callback(device.cancel)
        senders = [Sender(webhook, receiver) for _ in range(SENDERS)]
        sending = [asyncio.create_task(sender.send()) for sender in senders]
        for old in list(running):
            await _more(device)
            running.append(replacement := await rolling.another())
            balancer.ports.append(replacement.port)
            if announced:
                balancer.ports.remove(old.port)
            old.terminate()
            assert await old.ended() == 0, old.log
            if not announced:
                balancer.ports.remove(old.port)
            running.remove(old)
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
        for served in running:
            assert served.lines("hook_failed") == []
            assert await served.stop() == 0
    sent = [client_id for sender in senders for client_id in sender.sent]
    assert sorted(client_id for client_id in rolling.archived() if not client_id.startswith("im.")) == sorted(sent)


def _kill(running: list[Served]) -> None:
    for served in running:
        served.kill()


async def _more(device: Device) -> None:
    """Returns once the device was given some more messages."""
    count = len(device.held) + 50

    async def given() -> bool:
        return len(device.held) >= count

    await until(given, 60)
