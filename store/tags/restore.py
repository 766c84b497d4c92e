"""Restores tags and their holders from the archive."""

from collections.abc import Awaitable, Callable
from typing import Any

from store.addresses import Tag
from store.archive.tables.tags import TagRow, TagTables
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script

_RESTORE = script("restore_tag", bytes)
_TAGS = 500
_HOLDERS = 1000


async def restore_tags(redis: RedisClient, tables: TagTables, keep_lock: Callable[[], Awaitable[object]]) -> None:
    """Restores tags; newer ones in Redis stay. `keep_lock` is called repeatedly. Raises StoreAway, ArchiveAway."""
    name = ""
    while page := await tables.tags(name, _TAGS):
        for tag in page:
            await _restore_tag(redis, tables, tag, keep_lock)
        name = page[-1].tag


async def _restore_tag(
    redis: RedisClient, tables: TagTables, tag: TagRow, keep_lock: Callable[[], Awaitable[object]]
) -> None:
    known: Any = await redis.hget(keys.tag(tag.tag), "changed")
    newest, after = tag.changed, (0, 0)
    last = False
    while not last:
        holders = await tables.holders(tag.tag, after, _HOLDERS)
        last = len(holders) < _HOLDERS
        newest = max(newest, *(holder.changed for holder in holders)) if holders else newest
        arguments: list[Any] = []
        for holder in holders:
            arguments += (holder.uid, holder.joined, holder.left, holder.sources, holder.changed)
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
            known=int(known or 0),
            newest=newest if last else "",
        )
        await keep_lock()
        if holders:
            after = (holders[-1].uid, holders[-1].joined)
