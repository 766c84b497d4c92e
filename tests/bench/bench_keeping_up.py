"""Measures whether the outbox stays short while one process ingests webhooks and archives into MariaDB for a while."""

import asyncio
import tempfile
import threading
import time
from pathlib import Path

import asyncmy
import redis

from store.redis import keys
from tests.bench.report import Report
from tests.bench.service import see, service, wrk, wrk_script
from tests.servers import MariaServer, RedisServer, program

CONNECTIONS = 64
LOOKS = 6


def run(report: Report) -> None:
    """Measures what waits in the outbox while the load lasts, and how long the rest takes after it has ended."""
    seconds = report.choose(quick=2, usual=30, full=300)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        maria = MariaServer(directory / "maria")
        server = RedisServer(directory / "redis", program("redis-server"))
        maria.start()
        server.start()
        see(server)
        client = redis.Redis.from_url(server.url)
        asyncio.run(_create_database(maria.port))
        with service(directory, server, IM_ARCHIVE_URL=maria.url("im")) as port:
            done, waiting = threading.Event(), list[float]()
            watching = threading.Thread(target=_watch, args=(client, done, seconds / LOOKS, waiting))
            watching.start()
            rate, _ = wrk(wrk_script(directory), port, CONNECTIONS, seconds)
            done.set()
            watching.join()
            started = time.monotonic()
            left = client.xlen(keys.OUTBOX)
            while client.xlen(keys.OUTBOX):
                time.sleep(0.01)
            drained = time.monotonic() - started
        report.figure(f"accepted, {CONNECTIONS} connections", "messages/s", rate)
        report.figure("in the outbox meanwhile", "entries", waiting or [left])
        report.figure("in the outbox at the end of the load", "entries", left)
        report.figure("until the rest was archived", "s", drained)
        server.stop()
        maria.stop()


async def _create_database(port: int) -> None:
    root = await asyncmy.connect(host="127.0.0.1", port=port, user="root", autocommit=True)
    async with root.cursor() as cursor:
        await cursor.execute("CREATE DATABASE im")
    await root.ensure_closed()


def _watch(client: "redis.Redis", done: threading.Event, every: float, waiting: list[float]) -> None:
    while not done.wait(every):
        waiting.append(client.xlen(keys.OUTBOX))
