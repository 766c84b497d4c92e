"""The layout in which the store lies in Redis, and what becomes of a store of the one before.

The number of the layout is a key in Redis. Without it Redis is empty, or holds the layout in which timelines held
records: its outbox is archived and its timelines are dropped, for a rebuild to put the messages back as they lie now.
Processes that know only that layout are shut out first. A layout with a number that this version does not know is left
alone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from store.archive.archive import Archive
from store.errors import ShardsDiffer, StoreEmpty, StoreUnknown
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.timelines.spans import MARGIN_SECONDS, SPAN_SECONDS, span

LAYOUT = 2
"""Ids in timelines, bodies once."""
LAYOUT_OF_SHARDS = 3
"""The same on several shards. Versions that know of one shard only leave it alone: they would write to the home what
belongs in other shards."""

_MARK = f"layout {LAYOUT}"
_AT_ONCE = 1000
_TAKE_OVER = script("take_over", bytes)


def require_known(layout: bytes | None) -> None:
    """Checks the layout that Redis has. Raises StoreUnknown."""
    if layout is not None and layout not in (b"%d" % LAYOUT, b"%d" % LAYOUT_OF_SHARDS):
        raise StoreUnknown(
            f"{keys.LAYOUT.decode()} in Redis is {layout.decode(errors='replace')!r}: the store was written by another "
            f"version of emqx-im, and this one knows layouts {LAYOUT} and {LAYOUT_OF_SHARDS} only"
        )


def layout_of(shards: int) -> int:
    """Returns the layout of a store with so many shards."""
    return LAYOUT if shards == 1 else LAYOUT_OF_SHARDS


def require_not_resharding(resharding: bytes | None) -> None:
    """Checks that the number of shards is not being changed. resharding: what Redis has. Raises ShardsDiffer."""
    if resharding is not None:
        to = resharding.split()[1].decode()
        raise ShardsDiffer(f"the number of shards is being changed: run `emqx-im reshard --shards {to}` to its end")


def require_shards(layout: bytes | None, shards: bytes | None, count: int) -> None:
    """Checks the number of shards. layout, shards: what Redis has. Raises ShardsDiffer."""
    if layout is not None and int(shards or 1) != count:
        raise ShardsDiffer(_differ("Redis", int(shards or 1), count))


async def require_number_of_shards(home: RedisClient, archive: Archive, count: int) -> None:
    """Checks the number of shards that the store has by its Redis and by its archive.

    Raises ShardsDiffer, StoreUnknown, StoreAway, ArchiveAway.
    """
    state: Any = await home.mget(keys.LAYOUT, keys.SHARDS, keys.RESHARDING)
    layout, shards, resharding = state
    require_known(layout)
    require_not_resharding(resharding)
    require_shards(layout, shards, count)
    await require_archived_shards(archive, count)


async def require_archived_shards(archive: Archive, count: int) -> None:
    """Checks the number of shards that the archive has, or notes it there. Raises ShardsDiffer, ArchiveAway."""
    has = await archive.shards()
    if has is None:
        await archive.set_shards(count)
    elif has != count:
        raise ShardsDiffer(_differ("archive", has, count))


def _differ(where: str, has: int, count: int) -> str:
    return (
        f"the store has {has} {'shard' if has == 1 else 'shards'} by its {where}, and IM_SHARDS is {count}: set it to "
        f"{has}, or stop all processes and run `emqx-im reshard --shards {count}`"
    )


async def take_over(redis: RedisClient, archive_all: Callable[[], Awaitable[object]]) -> bool:
    """Shuts out processes of the layout before, and archives what it has left in its outbox.

    Whether there was such a store. `archive_all` archives what is in the outbox. For a Redis without an epoch. Raises
    StoreEmpty while one of them rebuilds; StoreError.
    """
    was_there = await redis.exists(keys.EARLIER_EPOCH, keys.EARLIER_OUTBOX_BYTES)
    await archive_all()
    outcome = await _TAKE_OVER.run(redis, mark=_MARK)
    if outcome != b"DONE":
        raise StoreEmpty("a process of an earlier version is rebuilding")
    await archive_all()
    return bool(was_there)


async def drop_earlier(redis: RedisClient, keep_lock: Callable[[], Awaitable[object]]) -> None:
    """Drops the timelines of the layout before, which lie in the archive. Raises StoreAway."""
    for prefix in (keys.EARLIER_INBOX_PREFIX, keys.EARLIER_CHANNEL_PREFIX):
        async for found in scan(redis, prefix):
            if found:
                await redis.unlink(*found)
            await keep_lock()


async def drop_before(redis: RedisClient, edge: int, kept_us: int) -> None:
    """Drops what lies before an id, of a window that was `kept_us` long. Raises StoreAway."""
    oldest = span(edge - kept_us) - MARGIN_SECONDS // SPAN_SECONDS - 1
    names = [redis.key(keys.bodies(number)) for number in range(max(oldest, 0), span(edge))]
    for start in range(0, len(names), _AT_ONCE):
        await redis.unlink(*names[start : start + _AT_ONCE])
    async for found in scan(redis, redis.key(keys.INBOX_PREFIX)):
        if outdated := [key for key in found if int(key.rpartition(b":")[2]) < span(edge)]:
            await redis.unlink(*outdated)


async def scan(redis: RedisClient, prefix: bytes) -> AsyncIterator[list[bytes]]:
    """Yields the keys that start so, some at a time. Raises StoreAway."""
    cursor = 0
    while True:
        cursor, found = await redis.scan(cursor, match=prefix + b"*", count=_AT_ONCE)
        yield found  # type: ignore[misc]
        if not cursor:
            return
