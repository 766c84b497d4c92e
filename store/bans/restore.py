"""Restores bans from the archive."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from store.archive.tables.operators import OperatorTables
from store.redis import keys
from store.redis.client import RedisClient

_BANS = 1000


async def restore_bans(redis: RedisClient, tables: OperatorTables, keep_lock: Callable[[], Awaitable[object]]) -> None:
    """Makes Redis have the bans that the archive has, and no other: nobody writes meanwhile, and all is archived.

    `keep_lock` is called repeatedly. Raises StoreAway, ArchiveAway.
    """
    now, uid, newest = time.time_ns() // 1_000_000, 0, await tables.newest_ban(2**63 - 1)
    held: Any = await redis.zrange(keys.BANS, 0, -1)
    forgotten = {int(each) for each in held}
    while page := await tables.bans(uid, now, _BANS):
        pipeline = redis.pipeline(transaction=False)
        for row in page:
            pipeline.set(keys.ban(row.uid), f"{row.until}\n{row.changed}\n{row.reason}", pxat=row.until)
            pipeline.zadd(keys.BANS, {str(row.uid): row.until})
        await pipeline.execute()
        await keep_lock()
        forgotten -= {row.uid for row in page}
        uid = page[-1].uid
    for uid in forgotten:
        await redis.delete(keys.ban(uid))
        await redis.zrem(keys.BANS, str(uid))
    await redis.set(keys.BANS_CHANGED, newest)
