"""The life of the store in Redis: it has a name, the epoch, and starts above everything that was ever archived."""

import secrets
import time
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from store import keys
from store.errors import StoreAway
from store.scripts import script


class HighestId(Protocol):
    async def highest_id(self) -> int: ...


class Life:
    """Looks whether Redis holds a life of the store, and starts one where it does not."""

    def __init__(self, redis: Redis, archive: HighestId) -> None:
        self._redis = redis
        self._archive = archive
        self._begin = script("begin_epoch")

    async def epoch(self) -> str | None:
        try:
            epoch: Any = await self._redis.get(keys.EPOCH)
        except (RedisError, OSError) as error:
            raise StoreAway(f"epoch: {error}") from error
        return None if epoch is None else str(epoch, "ascii")

    async def ensure(self) -> str:
        """The epoch. Raises StoreAway, ArchiveAway: without the archive nobody knows which ids were given."""
        epoch = await self.epoch()
        if epoch is not None:
            return epoch
        lowest = max(await self._archive.highest_id(), time.time_ns() // 1000)
        begun: bytes = await self._begin.run(self._redis, [keys.EPOCH, keys.CLOCK], [secrets.token_urlsafe(4), lowest])
        return begun.decode()
