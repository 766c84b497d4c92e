"""From the outbox to the archive: every entry once, whatever dies or is in the way."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from store.archive.archive import Archive
from store.archive.archiver import BATCH_ENTRIES, Archiver
from store.archive.handlers import MessageHandler
from store.archive.outbox import GROUP, MESSAGES, Outbox
from store.errors import StoreEmpty
from store.operations.dead_letters import DeadLetters
from store.record import Message, encode
from store.redis import keys
from store.redis.client import RedisClient
from store.workers import Worker
from tests.integration.archive.outbox_writer import (
    FIRST,
    Make,
    assert_nothing_left,
    empty,
    message,
    outbox_is_empty,
    put,
    put_data,
    stored,
    until,
)


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


async def test_an_idle_archiver_waits_in_redis(archive: Archive, live_redis: RedisClient, archiver_on: Make) -> None:
    archiver = archiver_on(archive)
    await archiver.step()
    begin, cpu = time.monotonic(), time.process_time()
    assert await archiver.step() == 0
    assert time.monotonic() - begin > 0.9
    assert time.process_time() - cpu < 0.2
    waiting = asyncio.create_task(archiver.step())
    await put(live_redis, [message(1)])
    assert await waiting == 1


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


@pytest.mark.parametrize("epoch", [None, "another"])
async def test_an_outbox_that_was_lost_has_not_been_archived(live_redis: RedisClient, epoch: str | None) -> None:
    """An archiver may have in its hands what was in there, and store it later."""
    outbox = Outbox(live_redis)
    await live_redis.set(keys.EPOCH, "first")
    await put(live_redis, [message(1)])
    waiting = asyncio.create_task(outbox.caught_up(FIRST + 2, FIRST + 1, "first"))
    await asyncio.sleep(0)
    await live_redis.flushall()
    if epoch is not None:
        await live_redis.set(keys.EPOCH, epoch)
    with pytest.raises(StoreEmpty):
        await waiting
