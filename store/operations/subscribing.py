"""Users whose devices some process is about to subscribe in the broker, by a list that may be out of date by then."""

import time
from typing import Any

from store.redis import keys
from store.redis.client import RedisClient

MAX_SECONDS = 30
"""How long it takes at most: a process that has begun earlier has died, and what it had the broker do is done."""


class Subscribing:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def begin(self, uid: int, clientid: str) -> None:
        """Notes that work on the device begins; call it before its topics are read."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.zadd(keys.subscribing(uid), {clientid: time.time() + MAX_SECONDS})
        pipeline.expire(keys.subscribing(uid), MAX_SECONDS)
        await self._reply(pipeline.execute())

    async def end(self, uid: int, clientid: str) -> None:
        """Notes that the device's subscriptions are correct."""
        await self._reply(self._redis.zrem(keys.subscribing(uid), clientid))

    async def is_in_hand(self, uid: int) -> bool:
        """Returns whether a device of the user may yet be subscribed to what it should not be."""
        return bool(await self._reply(self._redis.zcount(keys.subscribing(uid), time.time(), "+inf")))

    @staticmethod
    async def _reply(asked: Any) -> Any:
        return await asked
