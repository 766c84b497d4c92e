"""The webhook's ingest and the archiver, in one process, into MariaDB, for a minute: does the outbox stay short?"""

import asyncio
import tempfile
import threading
import time
from pathlib import Path

import asyncmy
import redis

from store import keys
from tests.bench.service import service, wrk, wrk_script
from tests.servers import MariaServer, RedisServer, program

CONNECTIONS = 64
SECONDS = 60
LOOK_SECONDS = 5


def main() -> None:
    """Prints what waits in the outbox every five seconds, and how long the rest takes after the load has ended."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        maria = MariaServer(directory / "maria")
        server = RedisServer(directory / "redis", program("redis-server"))
        maria.start()
        server.start()
        client = redis.Redis.from_url(server.url)
        asyncio.run(_create_database(maria.port))
        with service(directory, server, IM_ARCHIVE_URL=maria.url("im")) as port:
            done = threading.Event()
            watching = threading.Thread(target=_watch, args=(client, done))
            watching.start()
            rate, _ = wrk(wrk_script(directory), port, CONNECTIONS, SECONDS)
            done.set()
            watching.join()
            started = time.monotonic()
            left = client.xlen(keys.OUTBOX)
            while client.xlen(keys.OUTBOX):
                time.sleep(0.1)
            print(f"{rate:.0f} messages/s accepted; {left} left in the outbox, archived in", end=" ")
            print(f"{time.monotonic() - started:.1f} s more")
        server.stop()
        maria.stop()


async def _create_database(port: int) -> None:
    root = await asyncmy.connect(host="127.0.0.1", port=port, user="root", autocommit=True)
    async with root.cursor() as cursor:
        await cursor.execute("CREATE DATABASE im")
    await root.ensure_closed()


def _watch(client: "redis.Redis", done: threading.Event) -> None:
    started = time.monotonic()
    while not done.wait(LOOK_SECONDS):
        print(f"{time.monotonic() - started:4.0f} s  {client.xlen(keys.OUTBOX):8d} in the outbox", flush=True)


if __name__ == "__main__":
    main()
