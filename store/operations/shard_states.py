"""Reads how the shards beside the home are: whether they answer, and how far they are behind the home."""

import asyncio
import time
from typing import Any, NamedTuple

from store.errors import StoreAway
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.shards import Shards


class ShardState(NamedTuple):
    """One shard. away: why it does not answer, "" if it does. waited_for: whether messages wait for it. entries: on
    its link, those included that were applied in the last minute. waits: seconds for which the oldest of those has
    waited that were not applied; 0 if all were. behind: how old, in seconds, what its users see last is; None if it
    does not say.
    """

    shard: int
    away: str
    waited_for: bool
    entries: int
    waits: float
    behind: float | None


class ShardStates:
    def __init__(self, shards: Shards[RedisClient]) -> None:
        self._shards = shards
        self._applied = dict.fromkeys(shards.others, 0)

    async def look(self) -> list[ShardState]:
        """Returns the state of each shard beside the home. Raises StoreAway if the home does not answer."""
        return list(await asyncio.gather(*map(self._look_at, self._shards.others)))

    async def link_bytes(self) -> int:
        """Returns the bytes on all links. Raises StoreAway."""
        return int(await self._shards.home.get(keys.LINK_BYTES) or 0)

    async def _look_at(self, shard: int) -> ShardState:
        redis, link, away, clock = self._shards[shard], keys.LINK_PREFIX + b"%d" % shard, "", 0
        try:
            pipeline = redis.pipeline(transaction=False)
            pipeline.hget(redis.key(keys.APPLIED), "id")
            pipeline.get(redis.key(keys.CLOCK))
            applied, clock = (int(each or 0) for each in await pipeline.execute())
            self._applied[shard] = applied
        except StoreAway as error:
            away = str(error)
        pipeline = self._shards.home.pipeline(transaction=False)
        pipeline.sismember(keys.AWAY, str(shard))
        pipeline.xlen(link)
        pipeline.xrange(link, min=f"({self._applied[shard]}-0", count=1)
        given_up, entries, first = await pipeline.execute()
        return ShardState(shard, away, not given_up, entries, _age(_id(first)), _age(clock) if clock else None)


def _id(entries: list[Any]) -> int:
    return int(entries[0][0].partition(b"-")[0]) if entries else 0


def _age(id_: int) -> float:
    """Returns the seconds since an id was given; 0 for none."""
    return max(0.0, time.time() - id_ / 1_000_000) if id_ else 0.0
