"""Several archivers on one outbox: who works on what, and who goes on when one of them ends."""

import asyncio
import signal
import sys
from collections.abc import Sequence

import pytest

from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import MessageHandler
from store.archive.outbox import GROUP, Outbox
from store.operations.dead_letters import DeadLetters
from store.record import Message
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.workers import Worker
from tests.integration.archive.outbox_writer import (
    Make,
    assert_nothing_left,
    empty,
    message,
    outbox_is_empty,
    put,
    stored,
    until,
)
from tests.servers import RedisServer


async def test_the_consumer_of_an_archiver_that_stopped_is_gone(
    archive: Archive, live_redis: RedisClient, archiver_on: Make
) -> None:
    await put(live_redis, [message(1)])
    await empty(archiver_on(archive), live_redis)
    assert await live_redis.xinfo_consumers(keys.OUTBOX, GROUP) == []


async def test_consumers_of_dead_archivers_go_once_nothing_is_left_with_them(live_redis: RedisClient) -> None:
    await put(live_redis, [message(1), message(2), message(3)])
    holding, dead, leaving = (Outbox(live_redis) for _ in range(3))
    assert len(await holding.read(1)) == 1
    for outbox in (dead, leaving):
        assert await outbox.done(await outbox.read(1)) == 1
    await leaving.leave()
    names = {consumer["name"].decode() for consumer in await live_redis.xinfo_consumers(keys.OUTBOX, GROUP)}
    assert names == {holding.worker, dead.worker}
    leave = script("work_leave", int)
    assert await leave.run(live_redis, stream_key=keys.OUTBOX, group=GROUP, leaving=leaving.worker, silence=-1) == 1
    names = {consumer["name"].decode() for consumer in await live_redis.xinfo_consumers(keys.OUTBOX, GROUP)}
    assert names == {holding.worker}


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_another_archiver_finishes_what_a_killed_one_began(
    archive: Archive,
    archive_url: str,
    live_redis: RedisClient,
    redis_server: RedisServer,
    archiver_on: Make,
    moment: str,
) -> None:
    messages = [message(number) for number in range(300)]
    await put(live_redis, messages)
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.archive.dying", redis_server.url, archive_url, moment
    )
    assert await dying.wait() == -signal.SIGKILL
    assert (await live_redis.xpending(keys.OUTBOX, GROUP))["pending"] == 300
    assert len(await stored(archive_url)) == (300 if moment == "after" else 0)
    await empty(archiver_on(archive, idle=0.2), live_redis)
    assert await stored(archive_url) == messages
    await assert_nothing_left(live_redis)


async def test_entries_of_an_archiver_that_is_alive_are_left_to_it(
    archive: Archive, live_redis: RedisClient, archiver_on: Make
) -> None:
    await put(live_redis, [message(1)])
    reader = Outbox(live_redis)
    assert len(await reader.read(10)) == 1
    assert await archiver_on(archive).step() == 0
    assert await live_redis.xlen(keys.OUTBOX) == 1


class Slow(MessageHandler):
    """Stores once it may."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        self.busy, self.may_store = asyncio.Event(), asyncio.Event()

    async def store(self, rows: Sequence[Message]) -> None:
        self.busy.set()
        await self.may_store.wait()
        await super().store(rows)


async def test_an_archiver_that_takes_long_keeps_its_batch(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    """The steps of the other one wait twice as long as a silent archiver is thought to live."""
    await put(live_redis, [message(1)])
    handler, stop = Slow(archive), asyncio.Event()
    slow = Archiver(Outbox(live_redis, idle=1.0), {b"message": handler}, DeadLetters(live_redis))
    running = asyncio.create_task(slow.run(Worker("archiver", stop)))
    await asyncio.wait_for(handler.busy.wait(), 10)
    other = archiver_on(archive, idle=1.0)
    assert [await other.step(), await other.step()] == [0, 0]
    handler.may_store.set()
    await until(lambda: outbox_is_empty(live_redis))
    stop.set()
    await running
    assert await stored(archive_url) == [message(1)]
    assert slow.archived == 1


async def test_archivers_share_one_outbox(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    messages = [message(number) for number in range(6000)]
    other = open_archive(archive_url)
    stop = asyncio.Event()
    crew = [archiver_on(archive), archiver_on(other)]
    running = [asyncio.create_task(archiver.run(Worker("archiver", stop))) for archiver in crew]
    for start in range(0, len(messages), 500):
        await put(live_redis, messages[start : start + 500])
    await until(lambda: outbox_is_empty(live_redis))
    stop.set()
    await asyncio.gather(*running)
    await other.close()
    assert await stored(archive_url) == messages
    assert sum(archiver.archived for archiver in crew) == len(messages)
    await assert_nothing_left(live_redis)


async def test_archivers_that_take_the_same_entries_count_their_bytes_once(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    messages = [message(number) for number in range(1000)]
    await put(live_redis, messages)
    stop = asyncio.Event()
    crew = [archiver_on(archive, idle=0.001) for _ in range(3)]
    running = [asyncio.create_task(archiver.run(Worker("archiver", stop))) for archiver in crew]
    await until(lambda: outbox_is_empty(live_redis))
    stop.set()
    await asyncio.gather(*running)
    assert await stored(archive_url) == messages
    await assert_nothing_left(live_redis)
