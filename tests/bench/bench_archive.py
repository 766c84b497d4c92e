"""Measures how fast archivers empty a full outbox, with one message in each row.

It starts its own Valkey and MariaDB (durable commits); SQLite syncs every commit.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import asyncmy

from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import ENTRY_BYTES, Outbox
from store.operations.dead_letters import DeadLetters
from store.record import encode_tail
from store.redis import keys
from store.redis.connection import connect
from store.workers import Worker
from tests.bench.report import Report
from tests.servers import MariaServer, RedisServer, valkey_program

USERS = 5000
PAYLOAD_BYTES = 200


async def fill(url: str, entries: int) -> None:
    """Messages among `USERS` users, as the append script writes them."""
    redis = connect(url, timeout=30)
    await redis.flushall()
    first = time.time_ns() // 1000
    padding = "x" * (PAYLOAD_BYTES - 75)
    for start in range(0, entries, 1000):
        async with redis.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + 1000, entries)):
                client_id = f"{number:032x}"
                payload = f'{{"id":"{client_id}","type":"text","body":{{"text":"{padding}"}}}}'.encode()
                topic = f"single/{10_000 + number * 7919 % USERS}"
                tail = encode_tail(topic, str(10_000 + number % USERS), client_id, first // 1000, True, payload)
                data = b"%d\n" % (first + number) + tail
                pipe.xadd(keys.OUTBOX, {b"k": b"message", b"d": data}, id=f"{first + number}-0")
                pipe.incrby(keys.OUTBOX_BYTES, len(data) + ENTRY_BYTES)
            await pipe.execute()
    await redis.aclose()


async def measure(report: Report, name: str, url: str, archive: Archive, entries: int, archivers: int) -> None:
    """The rate at which `archivers` in this process empty the outbox."""
    await archive.migrate()
    await archive.keep_partitions(time.time_ns() // 1000)
    redis = connect(url, timeout=30)
    stop = asyncio.Event()
    crew = [Archiver(Outbox(redis), handlers(archive), DeadLetters(redis)) for _ in range(archivers)]
    begin, cpu = time.perf_counter(), time.process_time()
    running = [asyncio.create_task(archiver.run(Worker("archiver", stop))) for archiver in crew]
    stall = 0.0
    while await redis.xlen(keys.OUTBOX):
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        stall = max(stall, time.perf_counter() - before - 0.01)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    stop.set()
    await asyncio.gather(*running)
    assert sum(archiver.archived for archiver in crew) >= entries
    assert await redis.get(keys.OUTBOX_BYTES) == b"0"
    report.figure(
        f"{name}, {archivers} archiver{'s' if archivers > 1 else ''}",
        "rows/s",
        entries / seconds,
        remark=f"{entries:,} rows; CPU {cpu / seconds:.0%} of a core, event loop held for up to {stall * 1000:.0f} ms",
    )
    await redis.aclose()


def run(report: Report) -> None:
    asyncio.run(_run(report, report.choose(quick=2_000, usual=60_000, full=1_000_000)))


async def _run(report: Report, entries: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        valkey = RedisServer(directory / "valkey", valkey_program())
        valkey.start()
        maria = MariaServer(directory / "maria")
        maria.start()
        root = await asyncmy.connect(host="127.0.0.1", port=maria.port, user="root", autocommit=True)
        for archivers in (1, 2):
            async with root.cursor() as cursor:
                await cursor.execute(f"CREATE DATABASE im_{archivers}")
            targets = {
                "MariaDB": maria.url(f"im_{archivers}"),
                "SQLite": f"sqlite:///{directory}/{archivers}.db",
            }
            for target, url in targets.items():
                await fill(valkey.url, entries)
                archive = open_archive(url)
                await measure(report, target, valkey.url, archive, entries, archivers)
                await archive.close()
        root.close()
        maria.stop()
        valkey.stop()
