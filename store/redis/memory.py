"""Tells whether there is room in Redis. Each process looks once a second, so that messages cost nothing more.  Writes
stop while some room is left for pulls, which trim, for presence, and for archiving, which makes room.
"""

import math
from time import monotonic

import structlog

from store.errors import StoreAway, StoreFull
from store.redis import keys
from store.redis.client import RedisClient
from store.workers import Worker

_LOOK_SECONDS = 1.0

LATELY_SECONDS = 60.0
"""A store that makes room for a few messages at a time is full again soon, and what was refused is still on its way."""

log = structlog.get_logger(__name__)


class StoreMemory:
    """used, maxmemory: bytes that count for Redis's `maxmemory`, and that; 0 where it is unbounded."""

    def __init__(self, redis: RedisClient, high_water: float, *, outbox_limit: int) -> None:
        """Takes what bounds writes.

        high_water: nothing is written from this share of `maxmemory` on. outbox_limit: nor while so many bytes wait for
        the archive, which the scripts see to.
        """
        self._redis = redis
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
        """Raises StoreAway; what was known stays then."""
        before = self.full
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.info("memory")
        pipeline.get(keys.OUTBOX_BYTES)
        memory, outbox_bytes = await pipeline.execute()
        self.used = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
        self.maxmemory = int(memory["maxmemory"])
        if self.full or int(outbox_bytes or 0) >= self._outbox_limit:
            self._full_at = monotonic()
        if self.full and not before:
            log.error("store_full", used=self.used, maxmemory=self.maxmemory)
        elif before and not self.full:
            log.warning("store_has_room", used=self.used, maxmemory=self.maxmemory)


async def default_outbox_limit(redis: RedisClient) -> int:
    """Returns a quarter of what Redis may use, or 1 GiB where that is not bounded or not known yet."""
    try:
        memory = await redis.info("memory")
    except StoreAway:
        memory = {}
    return int(memory.get("maxmemory") or 4 * 1024**3) // 4
