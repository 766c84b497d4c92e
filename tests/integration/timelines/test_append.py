"""What one call of the append script leaves in Redis: messages in timelines, and together in the outbox."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest_asyncio

from store.addresses import Inbox
from store.archive.outbox import Outbox
from store.errors import EntryFailed
from store.record import decode
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import admit
from store.timelines.append import Appender, Stored

WINDOW_US = 3_600_000_000


@pytest_asyncio.fixture
async def appender(redis: RedisClient) -> AsyncIterator[Appender]:
    """One connection: messages sent together are one call."""
    await redis.set(keys.EPOCH, "test")
    await redis.zadd(keys.SEEN, {str(uid): 1 for uid in range(1, 1000)})
    await admit(redis)
    appender = Appender(redis, connections=1, window_us=WINDOW_US, repeat_seconds=3600, outbox_limit=2**30)
    appender.start()
    yield appender
    await appender.stop()


async def send(appender: Appender, receivers: Sequence[int], payload: bytes = b"{}") -> list[Stored | BaseException]:
    sent = [appender.append(Inbox(uid), "1", f"m{uid}", 0, True, payload) for uid in receivers]
    return await asyncio.gather(*sent, return_exceptions=True)


async def outbox(redis: RedisClient) -> dict[int, int]:
    """Ids of the entries, and their bytes."""
    entries: Any = await redis.xrange(keys.OUTBOX)
    return {int(entry_id.split(b"-")[0]): len(fields[b"d"]) for entry_id, fields in entries}


async def test_messages_written_together_share_outbox_entries(appender: Appender, redis: RedisClient) -> None:
    stored = await send(appender, range(2, 202))
    mids = [each.mid for each in stored if isinstance(each, Stored)]
    ids = list(await outbox(redis))
    assert ids[0] == mids[0]
    assert set(ids) <= set(mids)
    assert len(ids) < 20
    archiver = Outbox(redis)
    entries = await archiver.read(100)
    assert [entry.kind for entry in entries] == [b"message"] * 200
    assert [decode(entry.data).mid for entry in entries] == mids
    assert all(int(entry.id.split(b"-")[0]) <= decode(entry.data).mid for entry in entries)
    assert await archiver.done(entries) == len(ids)
    assert await archiver.size() == 0


async def test_an_outbox_entry_is_never_large(appender: Appender, redis: RedisClient) -> None:
    await send(appender, range(2, 42), b'{"body":"%b"}' % (b"x" * 6000))
    assert max((await outbox(redis)).values()) < 16384 + 6200


async def test_what_failed_is_not_in_the_outbox(appender: Appender, redis: RedisClient) -> None:
    await redis.set(keys.inbox(3), "no timeline")
    first, failed, last = await send(appender, [2, 3, 4])
    assert isinstance(failed, EntryFailed)
    assert isinstance(first, Stored)
    assert isinstance(last, Stored)
    assert [decode(entry.data).mid for entry in await Outbox(redis).read(10)] == [first.mid, last.mid]


async def test_messages_that_cannot_go_into_the_outbox_leave_no_trace(appender: Appender, redis: RedisClient) -> None:
    await redis.set(keys.OUTBOX, "no stream")
    assert [type(each) for each in await send(appender, [2, 3])] == [EntryFailed, EntryFailed]
    assert await redis.exists(*(keys.inbox(uid) for uid in (1, 2, 3))) == 0
    await redis.delete(keys.OUTBOX)
    stored = await send(appender, [2, 3])
    assert [each.repeated for each in stored if isinstance(each, Stored)] == [False, False]
    assert await redis.zcard(keys.inbox(1)) == 2


async def test_a_timeline_is_trimmed_at_every_write(appender: Appender, redis: RedisClient) -> None:
    await send(appender, [2])
    lasting = await redis.ttl(keys.inbox(2))
    assert WINDOW_US / 1e6 < lasting <= WINDOW_US / 1e6 + 3600
    for left in (lasting, lasting - 1900):
        await redis.zadd(keys.inbox(2), {b"old": time.time_ns() // 1000 - WINDOW_US - 61_000_000})
        await redis.expire(keys.inbox(2), left)
        await appender.append(Inbox(2), "1", f"another {left}", 0, True, b"{}")
        assert await redis.zscore(keys.inbox(2), b"old") is None
        assert await redis.ttl(keys.inbox(2)) > lasting - 1900
    assert await redis.zcard(keys.inbox(2)) == 3
