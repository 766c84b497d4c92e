"""Runs the product's processes on separate servers, and does to them what a test asks for while they work."""

import asyncio
import json
import shutil
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncmy

from store.redis.client import RedisClient
from store.redis.connection import connect
from tests.integration.app import SECRETS, until
from tests.integration.emqx.sessions import EmqxApi, running_emqx_api
from tests.servers import MariaServer, RedisServer, Server, free_port

DRAIN_SECONDS = 45

_UNFORESEEN = ("hook_failed", "request_failed", "Traceback")
"""Words in the service's log that tell of something that nobody thought of."""


class Row(NamedTuple):
    """A message in the archive."""

    conversation: str
    sender: str
    client_id: str
    mid: int


async def start(server: Server) -> None:
    """Starts it while everything else goes on."""
    await asyncio.to_thread(server.start)


class World:
    """Valkey, MariaDB and `emqx-im serve`."""

    def __init__(
        self,
        directory: Path,
        redis: RedisServer,
        maria: MariaServer,
        database: str,
        emqx: EmqxApi,
        http: aiohttp.ClientSession,
        workers: int = 1,
        **settings: str,
    ) -> None:
        self.directory = directory
        self.redis = redis
        self.maria = maria
        self.emqx = emqx
        self.http = http
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._database = database
        self._environment = {
            **{f"IM_{name.upper()}": value for name, value in SECRETS.items()},
            "IM_HTTP_PORT": str(self.port),
            "IM_REDIS_URL": redis.url,
            "IM_ARCHIVE_URL": maria.url(database),
            "IM_EMQX_API_URL": emqx.url,
            "IM_EMQX_API_KEY": "key",
            "IM_OPERATORS": "ops",
            "IM_PULL_RATE": "100000",
            "IM_OPEN_PULLS": "1000",
            "IM_SEND_BYTES": str(2**40),
            "IM_SEND_RATE": "1000000",
            **settings,
        }
        self.service = self._process(["serve", f"--workers={workers}"], directory / "serve.log", self._serves)

    def archiver(self, number: int) -> Server:
        """`emqx-im archive`, not started yet."""
        return self._process(["archive"], self.directory / f"archive-{number}.log", lambda: True)

    async def restart(self, server: Server) -> None:
        """As kill -9 and a supervisor do."""
        server.kill()
        await start(server)

    async def archived(self) -> list[Row]:
        connection = await asyncmy.connect(host="127.0.0.1", port=self.maria.port, user="root", db=self._database)
        try:
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT conversation, sender, client_id, id FROM message ORDER BY id")
                rows = await cursor.fetchall()
        finally:
            connection.close()
        return [Row(topic.decode(), sender.decode(), client.decode(), mid) for topic, sender, client, mid in rows]

    async def drained(self) -> None:
        """Waits until everything is archived, and nothing is counted as waiting any more."""
        state: dict[str, Any] = {}

        async def empty() -> bool:
            nonlocal state
            async with self.http.get(f"{self.url}/readyz") as answer:
                state = await answer.json()
            archive = state["archive"]
            return (archive.get("outbox_length"), archive.get("outbox_bytes")) == (0, 0)

        try:
            await until(empty, DRAIN_SECONDS)
        except TimeoutError:
            raise AssertionError(f"the outbox does not get empty: {state}") from None

    def assert_sound(self) -> None:
        """The service is still the process it was, and met nothing that was not foreseen."""
        assert self.service.running, self.service.log.read_text()[-3000:]
        assert not self.unforeseen(), "\n".join(self.unforeseen()[:3])

    def unforeseen(self) -> list[str]:
        """Lines of the service's log that should never be there."""
        lines = self.service.log.read_text().splitlines()
        return [line for line in lines if any(mark in line for mark in _UNFORESEEN)]

    def logged(self) -> Counter[str]:
        """Returns how often each event stands in the service's log."""
        return Counter(json.loads(line).get("event", "") for line in self.service.log.read_text().splitlines())

    async def save_redis(self) -> Path:
        """Copies what Redis has on disk at this moment."""
        copy = self.directory / f"copy-{time.monotonic_ns()}"
        self.redis.hang()
        await asyncio.to_thread(shutil.copytree, self.redis.directory, copy)
        self.redis.resume()
        return copy

    async def lose_redis(self, copy: Path | None) -> float:
        """kill -9, and a disk that is empty or as it was when it was copied.

        When nothing that was answered before is on its way any more (seconds, monotonic).
        """
        self.redis.kill()
        await asyncio.sleep(0.1)
        lost_at = time.monotonic()
        shutil.rmtree(self.redis.directory)
        if copy is None:
            self.redis.directory.mkdir()
        else:
            shutil.copytree(copy, self.redis.directory)
        return lost_at

    def client(self) -> RedisClient:
        return connect(self.redis.url)

    def _process(self, command: list[str], log: Path, ready: Callable[[], bool]) -> Server:
        settings = [f"{name}={value}" for name, value in self._environment.items()]
        module = [sys.executable, "-m", "tests.integration.faults.impatient", *command]
        return Server(["/usr/bin/env", *settings, *module], self.port, log, ready)

    def _serves(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/healthz", timeout=1).close()
        except OSError:
            return False
        return True


Open = Callable[..., Awaitable[World]]


@asynccontextmanager
async def opening(directory: Path, maria: MariaServer, database: str) -> AsyncIterator[Open]:
    """Gives a function that starts a world on a Redis and with settings of the test's choice."""
    async with AsyncExitStack() as stack:
        emqx = await stack.enter_async_context(running_emqx_api())
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

        async def open_world(redis: RedisServer, **settings: Any) -> World:
            if not redis.running:
                await start(redis)
                stack.callback(redis.kill)
            world = World(directory, redis, maria, database, emqx, http, **settings)
            await start(world.service)
            stack.callback(lambda: print(*world.unforeseen()[:3], sep="\n"))  # noqa: T201
            stack.callback(world.service.kill)
            return world

        yield open_world
