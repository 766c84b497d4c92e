"""Tells whether there is room in Redis. Each process looks once a second, so that messages cost nothing more. Writes
stop while some room is left for pulls, which trim, for presence, and for archiving, which makes room. They stop for all
users where one shard has no room: a message may be for any of them, and the home cannot know before it gives the id.
"""

import asyncio
import math
from time import monotonic
from typing import Any

import structlog

from store.errors import StoreAway, StoreFull
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.shards import Shards, as_shards
from store.workers import Worker

_LOOK_SECONDS = 1.0

LATELY_SECONDS = 60.0
"""A store that makes room for a few messages at a time is full again soon, and what was refused is still on its way."""

log = structlog.get_logger(__name__)


class StoreMemory:
    """used, maxmemory: bytes that count for Redis's `maxmemory`, and that; 0 where it is unbounded. With
    several servers they are those of the fullest.
    """

    def __init__(self, redis: RedisClient | Shards[RedisClient], high_water: float, *, outbox_limit: int) -> None:
        """Takes what bounds writes.

        high_water: nothing is written from this share of `maxmemory` on. outbox_limit: nor while so many bytes wait for
        the archive and on links, which the scripts see to.
        """
        self._shards = as_shards(redis)
        self._high_water = high_water
        self._outbox_limit = outbox_limit
        self._full_at = -math.inf
        self.used = 0
        self.maxmemory = 0

    @property
    def full(self) -> bool:
        return 0 < self.maxmemory * self._high_water <= self.used

    @property
    def writes_wait(self) -> bool:
        """Returns whether nothing was written lately, as Redis or the outbox was full."""
        return monotonic() - self._full_at < LATELY_SECONDS

    def require_room(self) -> None:
        """Raises StoreFull if nothing is to be written."""
        if self.full:
            raise StoreFull(StoreFull.__doc__)

    async def run(self, worker: Worker) -> None:
        await worker.every(_LOOK_SECONDS, self.look)

    async def look(self) -> None:
        """Raises StoreAway if the home is away; what was known stays then."""
        before = self.full
        pipeline = self._shards.home.pipeline(transaction=False)
        pipeline.info("memory")
        pipeline.mget(keys.OUTBOX_BYTES, keys.LINK_BYTES)
        memory, waiting = await pipeline.execute()
        others = (self._shards[shard].info("memory") for shard in self._shards.others)
        memories = [memory]
        for each in await asyncio.gather(*others, return_exceptions=True):
            # What is for a shard that is away waits in the home.
            if isinstance(each, BaseException) and not isinstance(each, StoreAway):
                raise each
            if not isinstance(each, BaseException):
                memories.append(each)
        self.used, self.maxmemory = max(map(_room, memories), key=_share)
        if self.full or sum(int(each or 0) for each in waiting) >= self._outbox_limit:
            self._full_at = monotonic()
        if self.full and not before:
            log.error("store_full", used=self.used, maxmemory=self.maxmemory)
        elif before and not self.full:
            log.warning("store_has_room", used=self.used, maxmemory=self.maxmemory)


def _room(memory: dict[str, Any]) -> tuple[int, int]:
    """Returns the bytes that count for a server's `maxmemory`, and that."""
    used = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
    return used, int(memory["maxmemory"])


def _share(room: tuple[int, int]) -> tuple[float, int]:
    used, maxmemory = room
    return used / maxmemory if maxmemory else 0.0, used


async def default_outbox_limit(redis: RedisClient) -> int:
    """Returns a quarter of what Redis may use, or 1 GiB where that is not bounded or not known yet."""
    try:
        memory = await redis.info("memory")
    except StoreAway:
        memory = {}
    return int(memory.get("maxmemory") or 4 * 1024**3) // 4
