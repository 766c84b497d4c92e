"""Counts what happened in the last minutes, in all processes together, for the console's first page."""

import time
from collections.abc import Mapping
from typing import Any

from store.redis import keys
from store.redis.client import RedisClient

KEPT = 15
_SECONDS = 1200


class Minutes:
    """One hash for each minute, of as many numbers as have a name; its calls raise StoreAway."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def add(self, counts: Mapping[str, int], states: Mapping[str, int]) -> None:
        """Adds counts of what happened since the last call, by name. states: how it stands now; the last one counts."""
        key = keys.minute(int(time.time() // 60))
        pipeline = self._redis.pipeline(transaction=False)
        for name, count in counts.items():
            if count:
                pipeline.hincrby(key, name, count)
        pipeline.hset(key, mapping={name: str(state) for name, state in states.items()})
        pipeline.expire(key, _SECONDS)
        await pipeline.execute()

    async def last(self) -> list[tuple[int, dict[str, int]]]:
        """Returns the minutes up to this one, oldest first: when each began, milliseconds, and its numbers."""
        now = int(time.time() // 60)
        numbers = range(now - KEPT + 1, now + 1)
        pipeline = self._redis.pipeline(transaction=False)
        for number in numbers:
            pipeline.hgetall(keys.minute(number))
        found: Any = await pipeline.execute()
        return [
            (number * 60_000, {name.decode(): int(value) for name, value in each.items()})
            for number, each in zip(numbers, found, strict=True)
        ]
