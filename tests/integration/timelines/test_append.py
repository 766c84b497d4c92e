"""Tests what one call of the append script leaves in Redis: messages in timelines, and together in the outbox."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from store.addresses import Group, Inbox
from store.archive.outbox import Outbox
from store.errors import EntryFailed, StoreAway
from store.record import decode
from store.redis import keys
from store.redis.budget import Budget
from store.redis.client import RedisClient
from store.redis.scripts import admit
from store.timelines.append import Appender, Stored
from store.timelines.spans import MARGIN_SECONDS, SPAN_SECONDS, span
from tests.integration.inboxes import break_inbox, ids_in, inboxes_of
from tests.integration.memory import memory_of_keys

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
    """Returns ids of the entries, and their bytes."""
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
    await break_inbox(redis, 3)
    first, failed, last = await send(appender, [2, 3, 4])
    assert isinstance(failed, EntryFailed)
    assert isinstance(first, Stored)
    assert isinstance(last, Stored)
    assert [decode(entry.data).mid for entry in await Outbox(redis).read(10)] == [first.mid, last.mid]


async def test_what_redis_could_still_lose_is_not_read_for_the_archive(appender: Appender, redis: RedisClient) -> None:
    (stored,) = await send(appender, [2])
    assert isinstance(stored, Stored)
    careful = Outbox(redis, replicas=1)
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.read(10)
    careful.read_again()
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.read(10)
    assert [*await outbox(redis)] == [stored.mid]
    await careful.leave()


async def test_a_message_that_cannot_be_charged_leaves_no_trace(redis: RedisClient) -> None:
    await redis.mset({keys.EPOCH: "test", keys.BUDGET_PREFIX + b"0:1": "-1.5"})
    await admit(redis)
    await redis.zadd(keys.SEEN, {"2": 1, "3": 1})
    budget = Budget(1, 1)  # Redis is asked about everything
    appender = Appender(redis, window_us=WINDOW_US, repeat_seconds=3600, outbox_limit=2**30, budget=budget)
    appender.start()
    assert [type(each) for each in await send(appender, [2])] == [EntryFailed]
    assert await ids_in(redis, 2) == await bodies_in(redis) == []
    assert await redis.xlen(keys.OUTBOX) == 0
    await redis.delete(keys.BUDGET_PREFIX + b"0:1")
    assert [type(each) for each in await send(appender, [2])] == [Stored]
    await appender.stop()


async def test_messages_that_cannot_go_into_the_outbox_leave_no_trace(appender: Appender, redis: RedisClient) -> None:
    await redis.set(keys.OUTBOX, "no stream")
    assert [type(each) for each in await send(appender, [2, 3])] == [EntryFailed, EntryFailed]
    assert [key async for key in redis.scan_iter(match=keys.INBOX_PREFIX + b"*")] == []
    assert await bodies_in(redis) == []
    await redis.delete(keys.OUTBOX)
    stored = await send(appender, [2, 3])
    assert [each.repeated for each in stored if isinstance(each, Stored)] == [False, False]
    assert await ids_in(redis, 1) == await bodies_in(redis) == [each.mid for each in stored if isinstance(each, Stored)]


async def test_a_body_that_cannot_be_written_leaves_no_trace(appender: Appender, redis: RedisClient) -> None:
    now = time.time_ns() // 1000
    for broken in (span(now), span(now) + 1):
        await redis.set(keys.bodies(broken), "no hash")
    assert [type(each) for each in await send(appender, [2, 3])] == [EntryFailed, EntryFailed]
    assert await ids_in(redis, 1) == await ids_in(redis, 2) == []
    assert await redis.xlen(keys.OUTBOX) == 0


async def test_what_has_left_the_window_goes_with_the_first_write_of_its_time(
    appender: Appender, redis: RedisClient
) -> None:
    edge = time.time_ns() // 1000 - WINDOW_US - 61_000_000
    inboxes = [keys.inbox(2, span(edge) - back) for back in (1, 2)]
    bodies = [keys.bodies(span(edge) - back) for back in (1, 2, 10)]
    for key in inboxes:
        await redis.zadd(key, {b"old": 1})
    for key in bodies:
        await redis.hset(key, "old", "record")
    await redis.set(keys.CLOCK, time.time_ns() // 1000)
    await send(appender, [2])
    assert await redis.exists(*inboxes, *bodies) == 0
    assert len(await ids_in(redis, 2)) == len(await bodies_in(redis)) == 1


async def test_all_that_is_written_expires_a_day_after_the_window(appender: Appender, redis: RedisClient) -> None:
    await send(appender, [2])
    least = WINDOW_US // 1_000_000 + MARGIN_SECONDS
    (inbox,) = await inboxes_of(redis, 2)
    assert least < await redis.ttl(inbox) <= least + 2 * SPAN_SECONDS
    (bodies,) = [key async for key in redis.scan_iter(match=keys.BODIES_PREFIX + b"*")]
    assert least < await redis.ttl(bodies) <= least + SPAN_SECONDS


async def test_a_message_costs_its_body_once(appender: Appender, redis: RedisClient) -> None:
    """And an id in each inbox: in Redis's memory, and in its log."""
    await redis.hset(keys.group(7), mapping={"mode": "write"})
    members = range(1, 501)
    await redis.zadd(keys.members(7), {str(uid): 1 for uid in members})
    payload = b'{"body":"%b"}' % (b"x" * 200)
    await appender.append(Group(7), "1", "first", 0, True, payload)
    count = 100
    before = await used_and_logged(redis)
    for number in range(count):
        await appender.append(Group(7), "1", f"m{number}", 0, True, payload)
    await redis.delete(keys.OUTBOX)
    used, logged = [
        (after - earlier) / count for earlier, after in zip(before, await used_and_logged(redis), strict=True)
    ]
    assert used < 15_000
    assert logged < 500 * 100 + 3 * len(payload)


async def used_and_logged(redis: RedisClient) -> tuple[int, int]:
    persistence = await redis.info("persistence")
    return await memory_of_keys(redis), persistence["aof_current_size"]


async def bodies_in(redis: RedisClient) -> list[int]:
    """Returns the ids of all bodies, in order."""
    return sorted(
        [int(mid) async for key in redis.scan_iter(match=keys.BODIES_PREFIX + b"*") for mid in await redis.hkeys(key)]
    )


async def test_a_large_group_has_the_inboxes_it_lacks(appender: Appender, redis: RedisClient) -> None:
    """They are looked for many at a time: some are there, others begin, and who was never seen has none."""
    seen, never_seen = range(1, 251), (2001, 2002)
    await redis.hset(keys.group(7), mapping={"owner": 1, "mode": "write", "made": 1})
    await redis.zadd(keys.members(7), {str(uid): 1 for uid in (*seen, *never_seen)})
    await send(appender, range(90, 180))
    sent = [appender.append(Group(7), "1", f"g{number}", 0, True, b"{}") for number in range(3)]
    mids = [stored.mid for stored in await asyncio.gather(*sent)]
    for uid in seen:
        assert (await ids_in(redis, uid))[-3:] == mids
        assert all([await redis.ttl(inbox) > 0 for inbox in await inboxes_of(redis, uid)])
    for uid in never_seen:
        assert await inboxes_of(redis, uid) == []
        assert await redis.zscore(keys.UNSEEN, str(uid)) is not None
