"""Restores tags and their holders from the archive."""

from collections.abc import Awaitable, Callable
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


async def restore_tags(
    shards: Shards[RedisClient], tables: TagTables, keep_lock: Callable[[], Awaitable[object]]
) -> None:
    """Restores tags in the home and their holders in the holders' shards; newer ones in Redis stay. `keep_lock` is
    called repeatedly.

    What was propagated goes on. Raises StoreAway, ArchiveAway.
    """
    name = ""
    while page := await tables.tags(name, _TAGS):
        for tag in page:
            await _restore_tag(shards, tables, tag, keep_lock)
        name = page[-1].tag
    if shards.count > 1:
        await _go_on_propagating(shards)


async def _restore_tag(
    shards: Shards[RedisClient], tables: TagTables, tag: TagRow, keep_lock: Callable[[], Awaitable[object]]
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
            part = parts[shards.number(holder.uid)]
            part += (holder.uid, holder.joined, holder.left, holder.sources, holder.changed)
        for shard, (redis, arguments) in enumerate(zip(shards, parts, strict=True)):
            if shard and not arguments:
                continue
            await _RESTORE.run(
                redis,
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


async def _go_on_propagating(shards: Shards[RedisClient]) -> None:
    """Begins to propagate in other shards what was on their links, and ends there what the home does not know of."""
    propagating: Any = await shards.home.hgetall(keys.PROPAGATING)
    for shard in shards.others:
        redis = shards[shard]
        there: Any = await redis.hkeys(redis.key(keys.PROPAGATING))
        if strays := [tag for tag in there if tag not in propagating]:
            await redis.hdel(redis.key(keys.PROPAGATING), *strays)
    for name, at in propagating.items():
        tag = name.decode()
        kept: Any = await shards.home.hget(keys.tag(tag), "swap")
        job, *counts = kept.decode().split(" ")
        parts: Any = await shards.home.smembers(keys.parts(tag))
        for shard in sorted(int(each) for each in parts if int(each)):
            await _SWAP.run(shards[shard], tag=tag, at=at, job=job, count=int(counts[shard]))
