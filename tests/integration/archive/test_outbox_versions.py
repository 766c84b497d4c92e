"""An entry of the outbox says which version its layout has; what a process cannot read stays there."""

import asyncio
from typing import Any

import pytest

from store.archive import outbox
from store.archive.archive import Archive
from store.errors import UnknownVersion
from store.redis import keys
from store.redis.client import RedisClient
from store.workers import Worker
from tests.integration.archive.outbox_writer import (
    FIRST,
    Make,
    assert_nothing_left,
    message,
    outbox_is_empty,
    put,
    put_data,
    stored,
    until,
)


async def test_the_archiver_stops_at_a_version_it_cannot_read(
    archive: Archive,
    archive_url: str,
    live_redis: RedisClient,
    archiver_on: Make,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, behind = [message(number) for number in range(3)], [message(number) for number in range(10, 13)]
    await put(live_redis, before)
    await put_data(live_redis, FIRST + 5, b"?", version=b"3")
    await put(live_redis, behind)
    archiver = archiver_on(archive)
    stop = asyncio.Event()
    running = asyncio.create_task(archiver.run(worker := Worker("archiver", stop)))

    async def tried() -> bool:
        return archiver.failures["archive_unknown_version"] >= 3

    await until(tried)
    assert worker.trouble == (
        f"the outbox entry {FIRST + 5}-0 has version 3; this process reads version 1, 2: upgrade it"
    )
    assert len([line for line in caplog.messages if "worker_failed" in line]) == 1
    assert await stored(archive_url) == before
    assert await live_redis.xlen(keys.OUTBOX) == 4
    assert not await live_redis.exists(keys.DEAD_LETTERS)

    monkeypatch.setattr(outbox, "VERSIONS", frozenset({b"1", b"2", b"3"}))
    await until(lambda: outbox_is_empty(live_redis))
    stop.set()
    await running
    assert await stored(archive_url) == before + behind
    await assert_nothing_left(live_redis)


async def test_nothing_is_forgotten_for_a_rebuild_that_cannot_read_the_outbox(
    archive: Archive, live_redis: RedisClient, archiver_on: Make
) -> None:
    await put_data(live_redis, FIRST, b"?", version=b"7")

    async def progress() -> None:
        pass

    with pytest.raises(UnknownVersion, match="has version 7"):
        await archiver_on(archive).archive_all(progress)
    assert await live_redis.xlen(keys.OUTBOX) == 1


async def test_the_archiver_stops_at_a_kind_that_it_does_not_know(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    before, behind = [message(number) for number in range(3)], [message(number) for number in range(10, 13)]
    await put(live_redis, before)
    await put_data(live_redis, FIRST + 5, b"something", kind=b"novelty")
    await put(live_redis, behind)
    archiver = archiver_on(archive)
    assert await archiver.step() == len(before)
    for _ in range(2):
        with pytest.raises(UnknownVersion, match="is of the kind `novelty`, which this process does not know"):
            await archiver.step()
    assert await stored(archive_url) == before
    assert await live_redis.xlen(keys.OUTBOX) == 4
    assert not await live_redis.exists(keys.DEAD_LETTERS)


async def test_an_entry_without_a_version_has_the_first(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Make
) -> None:
    each = message(1)
    await put(live_redis, [each])
    entries: Any = await live_redis.xrange(keys.OUTBOX)
    assert b"v" not in entries[0][1]
    await archiver_on(archive).step()
    assert await stored(archive_url) == [each]
