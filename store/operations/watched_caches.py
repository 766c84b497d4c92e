"""Shares what all processes know of denials that the broker keeps and nobody decided."""

from typing import NamedTuple

import orjson

from store.redis import keys
from store.redis.client import RedisClient


class Watched(NamedTuple):
    """Times in milliseconds, 0: never.

    counted: for each node of the broker the questions it had asked at the last look, all and undecided.
    covered: as they were before its caches were dropped last. stale_at: since when there is more than that.
    clean_at: when there was not. dropped_at, drops: the last drop, and how many more there might have been then.
    """

    counted: dict[str, list[int]]
    covered: dict[str, list[int]]
    clean_at: int
    stale_at: int
    dropped_at: int
    drops: float


class WatchedCaches:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def load(self) -> Watched | None:
        """Returns what is known; None if nobody has looked yet, or Redis was emptied since."""
        held = await self._redis.get(keys.CACHES)
        return None if held is None else Watched(**orjson.loads(held))

    async def save(self, watched: Watched) -> None:
        await self._redis.set(keys.CACHES, orjson.dumps(watched._asdict()))
