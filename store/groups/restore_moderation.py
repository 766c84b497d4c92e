"""Puts what moderates groups back from the archive."""

import time
from collections.abc import Awaitable, Callable
from itertools import groupby
from operator import attrgetter
from typing import Any

from store.archive.tables.moderation import ModerationTables
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script

_RESTORE = script("restore_moderation", bytes)
_RESTORE_MUTES = script("restore_mutes", bytes)
_ROWS = 1000


async def restore_moderation(
    redis: RedisClient, tables: ModerationTables, keep_lock: Callable[[], Awaitable[object]]
) -> None:
    """Restores it for groups that are in Redis, unless what is there is newer. `keep_lock` is called time and again.

    Raises StoreAway, ArchiveAway.
    """
    await _restore_mutes(redis, tables, keep_lock)
    gid = 0
    while page := await tables.moderations(gid, _ROWS):
        for row in page:
            await _RESTORE.run(
                redis,
                group_key=keys.group(row.gid),
                moderated=row.changed,
                muted_until=row.muted_until,
                admins=row.admins,
                notice=row.notice,
            )
        await keep_lock()
        gid = page[-1].gid


async def _restore_mutes(
    redis: RedisClient, tables: ModerationTables, keep_lock: Callable[[], Awaitable[object]]
) -> None:
    """A mute that is over is as good as one that somebody ended."""
    after = (0, 0)
    while page := await tables.mutes(after, _ROWS):
        now = time.time() * 1000
        for gid, rows in groupby(page, attrgetter("gid")):
            arguments: list[Any] = []
            for row in rows:
                arguments += (row.uid, row.until if row.until > now else 0, row.changed)
            await _RESTORE_MUTES.run(
                redis, more_arguments=arguments, group_key=keys.group(gid), mutes_key=keys.mutes(gid)
            )
        await keep_lock()
        after = (page[-1].gid, page[-1].uid)
