"""Restores bans from the archive."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from store.archive.tables.operators import OperatorTables
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.shards import Shards

_BANS = 1000


async def restore_bans(
    shards: Shards[RedisClient],
    tables: OperatorTables,
    keep_lock: Callable[[], Awaitable[object]],
    *,
    only: int | None = None,
) -> None:
    """Makes the home have the bans that the archive has, and no other, and each shard those of its users; or `only` one
    shard beside the home. Nobody writes there meanwhile, and all that was written is archived.

    `keep_lock` is called repeatedly. Raises StoreAway, ArchiveAway.
    """
    now, uid, newest = time.time_ns() // 1_000_000, 0, await tables.newest_ban(2**63 - 1)
    numbers = range(shards.count) if only is None else [only]
    forgotten: dict[int, set[int]] = {}
    for shard in numbers:
        held: Any = await shards[shard].zrange(shards[shard].key(keys.BANS), 0, -1)
        forgotten[shard] = {int(each) for each in held}
    while page := await tables.bans(uid, now, _BANS):
        for shard in numbers:
            redis = shards[shard]
            rows = [row for row in page if not shard or shards.number(row.uid) == shard]
            pipeline = redis.pipeline(transaction=False)
            for row in rows:
                kept = f"{row.until}\n{row.changed}\n{row.reason}"
                pipeline.set(redis.key(keys.ban(row.uid)), kept, pxat=row.until)
                pipeline.zadd(redis.key(keys.BANS), {str(row.uid): row.until})
            await pipeline.execute()
            forgotten[shard] -= {row.uid for row in rows}
        await keep_lock()
        uid = page[-1].uid
    for shard, uids in forgotten.items():
        redis = shards[shard]
        for each in uids:
            await redis.delete(redis.key(keys.ban(each)))
            await redis.zrem(redis.key(keys.BANS), str(each))
    if only is None:
        await shards.home.set(keys.BANS_CHANGED, newest)
