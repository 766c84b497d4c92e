"""Decides which process tells a user something that they should hear only once."""

from collections.abc import Sequence

from store.redis import keys
from store.redis.client import RedisClient


class NotificationClaims:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def claim(self, uids: Sequence[int], milliseconds: int) -> list[int]:
        """Returns those of these users whom nobody took on within this time; they are this process's now.

        Raises StoreAway.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for uid in uids:
            pipeline.set(keys.SYNC_TOLD + b"%d" % uid, b"1", nx=True, px=milliseconds)
        marked = await pipeline.execute()
        return [uid for uid, first in zip(uids, marked, strict=True) if first]
