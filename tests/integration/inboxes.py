"""Reads users' inboxes, over all spans of time."""

import time
from typing import Any

from store.redis import keys
from store.redis.client import RedisClient
from store.timelines.spans import SPAN_SECONDS, span


async def inboxes_of(redis: RedisClient, uid: int) -> list[bytes]:
    """Returns the names of a user's inboxes, of the oldest span first."""
    pattern = redis.key(keys.INBOX_PREFIX) + b"%d:*" % uid
    return sorted([key async for key in redis.scan_iter(match=pattern, count=1000)])


async def ids_in(redis: RedisClient, uid: int) -> list[int]:
    """Returns the ids in a user's inbox, in order."""
    found: list[int] = []
    for key in await inboxes_of(redis, uid):
        mids: Any = await redis.zrange(key, 0, -1)
        found += map(int, mids)
    return found


async def break_inbox(redis: RedisClient, uid: int) -> None:
    """Nothing can be written to this user from now on, for some hours."""
    for name in _now_and_next(uid):
        await redis.set(name, "no timeline")


async def mend_inbox(redis: RedisClient, uid: int) -> None:
    await redis.delete(*_now_and_next(uid))


def _now_and_next(uid: int) -> list[bytes]:
    now = time.time_ns() // 1000
    return [keys.inbox(uid, span(now)), keys.inbox(uid, span(now + SPAN_SECONDS * 1_000_000))]
