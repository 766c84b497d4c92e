"""Archivers whose database or Redis goes away, and comes back."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import MessageHandler, handlers
from store.archive.outbox import Outbox
from store.errors import ArchiveAway, StoreAway
from store.operations.dead_letters import DeadLetters
from store.record import Message
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.workers import Worker
from tests.integration.archive.outbox_writer import (
    Make,
    assert_nothing_left,
    empty,
    message,
    outbox_is_empty,
    put,
    rows,
    stored,
    until,
)
from tests.servers import MariaServer, RedisServer, valkey_program


async def test_a_database_killed_under_load_loses_nothing(
    own_maria: MariaServer, live_redis: RedisClient, archiver_on: Make
) -> None:
    await rows(own_maria.url("mysql"), "CREATE DATABASE im")
    url = own_maria.url("im")
    archive = open_archive(url)
    await archive.migrate()
    messages = [message(number) for number in range(20_000)]
    stop = asyncio.Event()
    archiver = archiver_on(archive)
    running = asyncio.create_task(archiver.run(worker := Worker("archiver", stop)))

    async def load() -> None:
        for start in range(0, len(messages), 200):
            await put(live_redis, messages[start : start + 200])

    loading = asyncio.create_task(load())

    async def under_way() -> bool:
        return archiver.archived > 1000

    await until(under_way)
    own_maria.kill()
    await loading

    async def stands() -> bool:
        return archiver.failures["archive_away"] >= 3

    await until(stands)
    assert worker.trouble
    assert await archiver.lag_seconds() > 0
    own_maria.start()
    await until(lambda: outbox_is_empty(live_redis), 40)

    async def well() -> bool:
        return not worker.trouble

    await until(well)
    stop.set()
    await running
    assert await stored(url) == messages
    assert set(archiver.failures) == {"archive_away"}
    assert await archiver.lag_seconds() == 0
    await assert_nothing_left(live_redis)
    await archive.close()


async def test_stopping_while_the_archive_is_away_leaves_the_entries(
    live_redis: RedisClient, archive: Archive, archive_url: str, archiver_on: Make
) -> None:
    await put(live_redis, [message(1)])
    stop = asyncio.Event()
    away = archiver_on(open_archive("mysql://root@127.0.0.1:1/im"))
    running = asyncio.create_task(away.run(worker := Worker("archiver", stop)))

    async def stands() -> bool:
        return bool(worker.trouble)

    await until(stands)
    stop.set()
    await asyncio.wait_for(running, 20)
    await empty(archiver_on(archive, idle=0.1), live_redis)
    assert await stored(archive_url) == [message(1)]


async def test_a_flushed_redis_is_read_on(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    stop = asyncio.Event()
    archiver = archiver_on(archive)
    running = asyncio.create_task(archiver.run(Worker("archiver", stop)))
    await put(live_redis, [message(1)])

    async def first() -> bool:
        return archiver.archived == 1

    await until(first)
    await live_redis.flushall()
    await put(live_redis, [message(2)])

    async def second() -> bool:
        return archiver.archived == 2

    await until(second)
    stop.set()
    await running
    assert await stored(archive_url) == [message(1), message(2)]
    assert not archiver.failures
    await assert_nothing_left(live_redis)


async def test_a_redis_killed_under_it_is_read_on(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "valkey", valkey_program())
    server.start()
    redis = connect(server.url)
    await redis.set(keys.EPOCH, b"test")
    archive = open_archive(f"sqlite:///{tmp_path}/im.db")
    await archive.migrate()
    stop = asyncio.Event()
    archiver = Archiver(Outbox(redis), handlers(archive), DeadLetters(redis))
    running = asyncio.create_task(archiver.run(Worker("archiver", stop)))
    await put(redis, [message(number) for number in range(5000)])
    server.kill()

    async def stands() -> bool:
        return archiver.failures["store_away"] > 0

    await until(stands)
    server.start()
    await until(lambda: outbox_is_empty(redis))
    stop.set()
    await running
    assert await stored(f"sqlite:///{tmp_path}/im.db") == [message(number) for number in range(5000)]
    await archive.close()
    await redis.aclose()
    server.stop()


class Odd(MessageHandler):
    """Fails in a way that nobody has thought of, once."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        self.failed = False

    async def store(self, rows: Sequence[Message]) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("odd")
        await super().store(rows)


async def test_an_unexpected_error_is_counted_and_tried_again(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    await put(live_redis, [message(1)])
    archiver = Archiver(
        Outbox(live_redis),
        {b"message": Odd(archive)},
        DeadLetters(live_redis),
    )
    await empty(archiver, live_redis)
    assert archiver.failures == {"internal": 1}
    assert await stored(archive_url) == [message(1)]


async def test_redis_errors_are_the_stores(live_redis: RedisClient) -> None:
    await live_redis.set(keys.OUTBOX, b"no stream")
    with pytest.raises(StoreAway):
        await Outbox(live_redis).read(10)


async def test_a_step_reports_an_archive_that_is_away(live_redis: RedisClient, archiver_on: Make) -> None:
    await put(live_redis, [message(1)])
    archiver = archiver_on(open_archive("mysql://root@127.0.0.1:1/im"))
    with pytest.raises(ArchiveAway):
        await archiver.step()
