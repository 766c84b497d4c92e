"""The list of work on a real Redis: whose an item is, while its worker lives and after it died."""

import asyncio
from typing import Any

from store.redis.client import RedisClient
from store.redis.work_list import Item, WorkList

LIST = b"list"


async def read_until(worker: WorkList, count: int) -> list[Item]:
    """Returns what it is given, once that is so many."""
    found: list[Item] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await worker.read(10)
    return found


async def test_what_a_living_worker_holds_is_its_own_however_long(redis: RedisClient) -> None:
    """It may hold much, and work on other things first: that it reads says that it lives."""
    living, other = (WorkList(redis, LIST, "workers", idle=1.0) for _ in range(2))
    for number in range(3):
        await redis.xadd(LIST, {"n": number})
    assert len(await read_until(living, 3)) == 3
    for _ in range(3):
        assert await other.read(10) == []
        assert await living.read(10, wait=False) == []
    assert (await redis.xpending(LIST, "workers"))["consumers"] == [{"name": living.worker.encode(), "pending": 3}]


async def test_what_a_dead_worker_left_is_anothers(redis: RedisClient) -> None:
    dead = WorkList(redis, LIST, "workers", idle=30)
    ids = [await redis.xadd(LIST, {"n": number}) for number in range(5)]
    assert len(await read_until(dead, 5)) == 5
    await redis.xdel(LIST, ids[0])
    other = WorkList(redis, LIST, "workers", idle=0.5)
    assert [id_ for id_, _ in await read_until(other, 4)] == ids[1:]
    assert await other.unfinished(b"0-0", 10) == ([(id_, {b"n": b"%d" % n}) for n, id_ in enumerate(ids)][1:], None)


async def test_unfinished_items_come_in_pages(redis: RedisClient) -> None:
    worker = WorkList(redis, LIST, "workers", idle=30)
    assert await worker.unfinished(b"0-0", 10) == ([], None)
    ids: list[Any] = [await redis.xadd(LIST, {"n": number}) for number in range(3)]
    await read_until(worker, 3)
    await redis.xdel(LIST, ids[0])
    items, go_on = await worker.unfinished(b"0-0", 2)
    assert ([id_ for id_, _ in items], go_on) == (ids[1:2], ids[1])
    items, go_on = await worker.unfinished(ids[1], 2)
    assert ([id_ for id_, _ in items], go_on) == (ids[2:], None)
