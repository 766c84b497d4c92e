"""Who tells a user something that is worth claims once, whichever process notices it."""

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from store.errors import StoreAway
from store.redis import keys


class NotificationClaims:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def claim(self, uids: Sequence[int], milliseconds: int) -> list[int]:
        """Those of these users whom nobody took on within this time; they are this process's now. Raises StoreAway."""
        pipeline = self._redis.pipeline(transaction=False)
        for uid in uids:
            pipeline.set(keys.SYNC_TOLD + b"%d" % uid, b"1", nx=True, px=milliseconds)
        try:
            marked = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreAway(f"claims: {error}") from error
        return [uid for uid, first in zip(uids, marked, strict=True) if first]
