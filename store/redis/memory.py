"""Whether there is room in Redis. Each process looks once a second, so that a message costs nothing more.

Writes stop while there is still some left: for pulls, which trim, for presence, and for archiving, which makes room.
"""

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from store.cancellation import sleep_unless
from store.errors import StoreAway, StoreFull

_LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class StoreMemory:
    """used, most: bytes that count for Redis's `maxmemory`, and that; most is 0 where it is unbounded."""

    def __init__(self, redis: Redis, high_water: float) -> None:
        """high_water: nothing is written from this share of `maxmemory` on."""
        self._redis = redis
        self._high_water = high_water
        self.used = 0
        self.most = 0

    @property
    def full(self) -> bool:
        return 0 < self.most * self._high_water <= self.used

    def require_room(self) -> None:
        """Raises StoreFull where nothing is to be written."""
        if self.full:
            raise StoreFull(StoreFull.__doc__)

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until `stop`."""
        while not stop.is_set():
            try:
                await self.look()
            except StoreAway as error:
                log.warning("memory_unknown", error=str(error))
            await sleep_unless(stop, _LOOK_SECONDS)

    async def look(self) -> None:
        """Raises StoreAway; what was known stays then."""
        before = self.full
        try:
            memory = await self._redis.info("memory")
        except (RedisError, OSError) as error:
            raise StoreAway(f"memory: {error}") from error
        self.used = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
        self.most = int(memory["maxmemory"])
        if self.full and not before:
            log.error("store_full", used=self.used, maxmemory=self.most)
        elif before and not self.full:
            log.warning("store_has_room", used=self.used, maxmemory=self.most)
