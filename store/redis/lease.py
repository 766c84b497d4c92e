"""Work that one process does for all, every so often."""

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from store.errors import StoreAway
from store.redis import keys

_LOCK_SECONDS = 60
"""After a process died at work another may begin."""
_WATCHING_SECONDS = 5


class Lease:
    """A lock while the work goes on, and when it was done last. Its calls raise StoreAway."""

    def __init__(self, redis: Redis, lock: bytes, done: bytes, seconds: float = _LOCK_SECONDS) -> None:
        """lock, done: keys. seconds: after how long without a word another process may begin."""
        self._redis = redis
        self._done = done
        self._lock: Lock = redis.lock(lock.decode(), timeout=seconds, blocking=False)

    async def last(self) -> int:
        """When the work began that was completed last, milliseconds; 0: it never was, or Redis was emptied since."""
        try:
            return int(await self._redis.get(self._done) or 0)
        except (RedisError, OSError) as error:
            raise StoreAway(f"turn: {error}") from error

    async def take(self) -> bool:
        """Whether it is this process's turn; another one may be at it."""
        try:
            return bool(await self._lock.acquire())
        except (RedisError, OSError) as error:
            raise StoreAway(f"turn: {error}") from error

    async def keep(self) -> None:
        """The work goes on. Raises StoreAway, too, where another process has begun it."""
        try:
            await self._lock.reacquire()
        except (RedisError, LockError, OSError) as error:
            raise StoreAway(f"turn: {error}") from error

    async def leave(self) -> None:
        try:
            await self._lock.release()
        except (RedisError, LockError, OSError) as error:
            raise StoreAway(f"turn: {error}") from error

    async def complete(self, began: int) -> None:
        try:
            await self._redis.set(self._done, began)
        except (RedisError, OSError) as error:
            raise StoreAway(f"turn: {error}") from error


def reconciling(redis: Redis) -> Lease:
    """Of comparing presence with the broker's list of clients."""
    return Lease(redis, keys.RECONCILE_LOCK, keys.RECONCILED)


def watching(redis: Redis) -> Lease:
    """Of looking whether the broker keeps denials that nobody decided."""
    return Lease(redis, keys.CACHES_LOCK, keys.CACHES_LOOKED, _WATCHING_SECONDS)


def sweeping(redis: Redis) -> Lease:
    """Of looking for nodes of the broker that were started."""
    return Lease(redis, keys.BOOT_LOCK, keys.BOOTS_LOOKED, _WATCHING_SECONDS)
