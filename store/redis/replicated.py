"""Tells what was read from Redis from what Redis could still lose with a failover."""

import asyncio

from store.errors import StoreAway
from store.redis.client import RedisClient
from store.redis.connection import wait_for_replicas
from store.redis.pipelined import RedisConnection

_SECONDS = 2.5
"""For a node that hangs in the middle of it: WAIT itself takes up to one."""


class ReplicatedReads:
    """Once `confirm` returns, what was read survives a failover: only then may it be written elsewhere, or told. A
    master that was replaced may give, for a moment, what it alone has.
    """

    def __init__(self, redis: RedisClient, replicas: int) -> None:
        """replicas: that must have what was read; with 0 nothing is confirmed."""
        self._redis = redis
        self._connection = RedisConnection(redis)
        self._replicas = replicas

    def begin(self) -> int:
        """Returns what names the node that is read from; comes before the read."""
        return self._redis.resolver.generation

    async def confirm(self, node: int) -> None:
        """Raises StoreAway if Redis could still lose what was read from a node."""
        if not self._replicas:
            return
        try:
            async with asyncio.timeout(_SECONDS):
                await self._connection.execute_command("PING")  # it may have to connect first
                await wait_for_replicas(self._connection, self._replicas)
        except TimeoutError:
            raise StoreAway("replicas were waited for in vain") from None
        if self._redis.resolver.generation != node:
            raise StoreAway("this was read from another node than replicas were waited for")

    async def aclose(self) -> None:
        await self._connection.aclose()
