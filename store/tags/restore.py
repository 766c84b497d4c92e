"""Restores tags and their holders from the archive."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from store.addresses import Tag
from store.archive.tables.tags import TagRow, TagTables
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards

_RESTORE = script("restore_tag", bytes)
_SWAP = script("tag_swap", int)
_TAGS = 500
_HOLDERS = 1000
_NEWEST = 2**63 - 1
"""An id above all: nothing is left out."""


async def restore_tags(
    shards: Shards[RedisClient], tables: TagTables, keep_lock: Callable[[], Awaitable[object]]
) -> None:
    """Restores tags in the home and their holders in the holders' shards; newer ones in Redis stay. `keep_lock` is
    called repeatedly.

    What was propagated goes on. Raises StoreAway, ArchiveAway.
    """
    await _restore_each(shards, tables, keep_lock, range(shards.count), _NEWEST)
    if shards.count > 1:
        await _go_on_propagating(shards, shards.others, _NEWEST)


async def restore_holders(
    shards: Shards[RedisClient],
    tables: TagTables,
    keep_lock: Callable[[], Awaitable[object]],
    *,
    shard: int,
    as_of: int,
) -> None:
    """Restores what a shard beside the home knows of its users' tags, as they were at an id: its link brings what comes
    after that. `keep_lock` is called repeatedly. Raises StoreAway, ArchiveAway.
    """
    await _restore_each(shards, tables, keep_lock, [shard], as_of)
    await _go_on_propagating(shards, [shard], as_of)


async def _restore_each(
    shards: Shards[RedisClient],
    tables: TagTables,
    keep_lock: Callable[[], Awaitable[object]],
    numbers: Sequence[int],
    as_of: int,
) -> None:
    name = ""
    while page := await tables.tags(name, _TAGS):
        for tag in page:
            await _restore_tag(shards, tables, tag, keep_lock, numbers, as_of)
        name = page[-1].tag


async def _restore_tag(
    shards: Shards[RedisClient],
    tables: TagTables,
    tag: TagRow,
    keep_lock: Callable[[], Awaitable[object]],
    numbers: Sequence[int],
    as_of: int,
) -> None:
    known: Any = await shards.home.hget(keys.tag(tag.tag), "changed")
    # Another shard has what was written before its clock.
    known_there: list[Any] = [await shards[shard].get(shards[shard].key(keys.CLOCK)) for shard in shards.others]
    known_in = [int(known or 0), *(max(0, int(clock or 0) - 1) for clock in known_there)]
    newest, after = tag.changed, (0, 0)
    last = False
    while not last:
        holders = await tables.holders(tag.tag, after, _HOLDERS)
        last = len(holders) < _HOLDERS
        newest = max(newest, *(holder.changed for holder in holders)) if holders else newest
        parts: list[list[Any]] = [[] for _ in shards]
        for holder in holders:
            if holder.joined <= as_of:
                # When it ended is known here even if that is later: taking the tag once more changes nothing.
                part = parts[shards.number(holder.uid)]
                part += (holder.uid, holder.joined, holder.left, holder.sources, holder.changed)
        for shard in numbers:
            arguments = parts[shard]
            if shard and not arguments:
                continue
            await _RESTORE.run(
                shards[shard],
                more_arguments=arguments,
                tag_key=keys.tag(tag.tag),
                tag=tag.tag,
                channel=Tag(tag.tag).channel,
                followable=int(tag.followable),
                made=tag.made,
                deleted=tag.deleted,
                changed=tag.changed,
                title=tag.title,
                known=known_in[shard],
                newest=newest if last and not shard else "",
            )
        await keep_lock()
        if holders:
            after = (holders[-1].uid, holders[-1].joined)


async def _go_on_propagating(shards: Shards[RedisClient], numbers: Sequence[int], as_of: int) -> None:
    """Begins to propagate in other shards what was on their links up to an id, and ends there what the home does not
    know of."""
    propagating: Any = await shards.home.hgetall(keys.PROPAGATING)
    for shard in numbers:
        redis = shards[shard]
        there: Any = await redis.hkeys(redis.key(keys.PROPAGATING))
        if strays := [tag for tag in there if tag not in propagating]:
            await redis.hdel(redis.key(keys.PROPAGATING), *strays)
    for name, at in propagating.items():
        if int(at) > as_of:
            continue
        tag = name.decode()
        kept: Any = await shards.home.hget(keys.tag(tag), "swap")
        job, *counts = kept.decode().split(" ")
        parts: Any = await shards.home.smembers(keys.parts(tag))
        for shard in sorted({*map(int, parts)} & {*numbers}):
            await _SWAP.run(shards[shard], tag_key=keys.tag(tag), tag=tag, at=at, job=job, count=int(counts[shard]))
