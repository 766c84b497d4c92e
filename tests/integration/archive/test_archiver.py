"""From the outbox to the archive: every entry once, whatever dies or is in the way."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from store.archive.archive import Archive, open_archive
from store.archive.archiver import BATCH_ENTRIES, Archiver
from store.archive.handlers import MessageHandler, handlers
from store.archive.outbox import GROUP, MESSAGES, Outbox
from store.errors import ArchiveAway, StoreAway
from store.operations.dead_letters import DeadLetters
from store.record import Message, encode
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.scripts import script
from store.workers import Worker
from tests.integration.archive.outbox_writer import (
    FIRST,
    assert_nothing_left,
    message,
    outbox_is_empty,
    put,
    put_data,
    rows,
    stored,
    until,
)
from tests.servers import MariaServer, RedisServer, valkey_program

Make = Callable[..., Archiver]


async def empty(archiver: Archiver, redis: RedisClient) -> None:
    """Runs an archiver until the outbox is empty, then stops it."""
    stop = asyncio.Event()
    running = asyncio.create_task(archiver.run(Worker("archiver", stop)))
    await until(lambda: outbox_is_empty(redis))
    stop.set()
    await running


async def test_the_outbox_lands_in_the_archive(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    messages = [message(number, payload=b"%d" % number) for number in range(BATCH_ENTRIES * 2)]
    await put(live_redis, messages)
    archiver = archiver_on(archive)
    await empty(archiver, live_redis)
    assert await stored(archive_url) == messages
    assert archiver.archived == len(messages)
    assert not archiver.failures
    await assert_nothing_left(live_redis)


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


async def test_leaving_a_redis_that_was_wiped(live_redis: RedisClient) -> None:
    outbox = Outbox(live_redis)
    await outbox.read(10)
    await live_redis.flushall()
    await outbox.leave()


async def test_large_messages_are_read_in_smaller_batches(
    archive: Archive, live_redis: RedisClient, archiver_on: Make
) -> None:
    await put(live_redis, [message(number, payload=b"x" * 200_000) for number in range(120)])
    archiver = archiver_on(archive)
    sizes = [await archiver.step()]
    while not await outbox_is_empty(live_redis):
        sizes.append(await archiver.step())
    await put(live_redis, [message(number, payload=b"x" * 200_000) for number in range(200, 320)])
    assert sum(sizes) == 120
    assert 20 < await archiver.step() < 60


async def test_a_bad_row_among_many_is_set_aside(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    good = [message(number) for number in range(1000) if number not in (17, 500, 999)]
    await put(live_redis, good[:700])
    await put_data(live_redis, FIRST + 2000, b"no record")
    late = [each._replace(mid=each.mid + 5000) for each in good[700:]]
    await put(live_redis, late)
    await put(live_redis, [message(5999, client_id="x" * 65)])
    archiver = archiver_on(archive)
    await empty(archiver, live_redis)
    assert await stored(archive_url) == good[:700] + late
    assert archiver.archived == 997
    assert archiver.failures == {"archive_refused": 1, "archive_undecodable": 1}
    letters = await DeadLetters(live_redis).page(0, 100)
    assert {(letter["source"], letter["reason"], letter["sender"]) for letter in letters} == {
        ("archive", "archive_undecodable", ""),
        ("archive", "archive_refused", message(5999).sender),
    }
    await assert_nothing_left(live_redis)


async def test_a_bad_message_is_set_aside_without_those_it_was_written_with(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    good = [message(1), message(4)]
    records = [encode(good[0]), b"no record", encode(message(3, client_id="x" * 65)), encode(good[1])]
    data = b" ".join(b"%d" % len(record) for record in records) + b"\n" + b"".join(records)
    await put_data(live_redis, FIRST + 1, data, MESSAGES)
    for number, wrong in enumerate([b"", b"3\nabcd", b"-1 5\nabcd", b"x\nabcd"]):
        await put_data(live_redis, FIRST + 10 + number, wrong, MESSAGES)
    archiver = archiver_on(archive)
    await empty(archiver, live_redis)
    assert await stored(archive_url) == good
    assert archiver.failures == {"archive_refused": 1, "archive_undecodable": 5}
    await assert_nothing_left(live_redis)


async def test_nothing_is_lost_when_a_bad_row_finds_no_dead_letters(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    await live_redis.set(keys.DEAD_LETTERS, b"no letters")
    await put(live_redis, [message(1), message(2, client_id="x" * 65)])
    stop = asyncio.Event()
    archiver = archiver_on(archive)
    running = asyncio.create_task(archiver.run(worker := Worker("archiver", stop)))

    async def stands() -> bool:
        return bool(worker.trouble)

    await until(stands)
    assert await live_redis.xlen(keys.OUTBOX) == 2
    await live_redis.delete(keys.DEAD_LETTERS)
    await until(lambda: outbox_is_empty(live_redis))
    stop.set()
    await running
    assert await stored(archive_url) == [message(1)]
    assert len(await DeadLetters(live_redis).page(0, 10)) == 1
    await assert_nothing_left(live_redis)


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


class Cancelled(MessageHandler):
    """Is cancelled when the rows are stored, once."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        self.done = False

    async def store(self, rows: Sequence[Message]) -> None:
        await super().store(rows)
        if not self.done:
            self.done = True
            raise asyncio.CancelledError


async def test_a_step_cancelled_between_insert_and_done_is_done_again(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    messages = [message(number) for number in range(200)]
    await put(live_redis, messages)
    archiver = Archiver(Outbox(live_redis), {b"message": Cancelled(archive)}, DeadLetters(live_redis))
    with pytest.raises(asyncio.CancelledError):
        await archiver.step()
    assert await live_redis.xlen(keys.OUTBOX) == 200
    await empty(archiver, live_redis)
    assert await stored(archive_url) == messages
    await assert_nothing_left(live_redis)


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
    await asyncio.wait_for(running, 2)
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


async def test_an_idle_archiver_waits_in_redis(archive: Archive, live_redis: RedisClient, archiver_on: Make) -> None:
    archiver = archiver_on(archive)
    await archiver.step()
    begin, cpu = time.monotonic(), time.process_time()
    assert await archiver.step() == 0
    assert time.monotonic() - begin > 0.9
    assert time.process_time() - cpu < 0.2
    waiting = asyncio.create_task(archiver.step())
    await put(live_redis, [message(1)])
    assert await asyncio.wait_for(waiting, 0.8) == 1


async def test_what_is_left_can_be_measured(live_redis: RedisClient) -> None:
    outbox = Outbox(live_redis)
    assert (await outbox.length(), await outbox.size(), await outbox.oldest_id()) == (0, 0, None)
    await put(live_redis, [message(1), message(2)])
    assert await outbox.length() == 2
    assert await outbox.size() == int(await live_redis.get(keys.OUTBOX_BYTES) or 0)
    assert await outbox.oldest_id() == FIRST + 1
    entries = await outbox.read(10)
    assert await outbox.done(entries[:1]) == 1
    assert await outbox.done(entries[:1]) == 0
    assert await outbox.oldest_id() == FIRST + 2
    assert await outbox.done(entries) == 1
    await assert_nothing_left(live_redis)


async def test_an_entry_deleted_while_it_was_pending_is_forgotten(
    archive: Archive, live_redis: RedisClient, archiver_on: Make
) -> None:
    await put(live_redis, [message(1)])
    outbox = Outbox(live_redis)
    await outbox.read(10)
    await live_redis.xdel(keys.OUTBOX, f"{FIRST + 1}-0")
    outbox.read_again()
    assert await outbox.read(10) == []
    assert (await live_redis.xpending(keys.OUTBOX, GROUP))["pending"] == 0


async def test_redis_errors_are_the_stores(live_redis: RedisClient) -> None:
    await live_redis.set(keys.OUTBOX, b"no stream")
    with pytest.raises(StoreAway):
        await Outbox(live_redis).read(10)


async def test_a_step_reports_an_archive_that_is_away(live_redis: RedisClient, archiver_on: Make) -> None:
    await put(live_redis, [message(1)])
    archiver = archiver_on(open_archive("mysql://root@127.0.0.1:1/im"))
    with pytest.raises(ArchiveAway):
        await archiver.step()
