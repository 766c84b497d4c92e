"""Clients of Redis: no silent retries, no wait without end."""

from typing import Any, cast

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from store.errors import StoreAway
from store.redis.client import RedisClient
from store.redis.pipelined import RedisConnection

_MAX_CONNECTIONS = 10_000
"""As many as Redis takes by itself. redis-py's own bound of 100 fails the 101st command at a time."""


def connect(url: str, *, timeout: float = 2.0, blocking: bool = False, single: bool = False) -> RedisClient:
    """Returns a client whose commands end within `timeout` seconds; a `blocking` one waits for its answers as long as
    asked.

    A `single` one has one connection, for a caller whose commands must follow each other on it.

    A command is never repeated behind the caller's back: what was written but not answered is the caller's to know.
    """
    client = RedisClient.from_url(
        url,
        socket_timeout=None if blocking else timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
        max_connections=_MAX_CONNECTIONS,
        single_connection_client=single,
    )
    return cast(RedisClient, client)


async def wait_for_replicas(redis: RedisClient | RedisConnection, replicas: int) -> None:
    """Returns once so many replicas have what this client wrote: WAIT counts for one connection, so it must be a
    `single` one. Raises StoreAway."""
    if not replicas:
        return
    reached: Any = await redis.execute_command("WAIT", replicas, 1000)
    if reached < replicas:
        raise StoreAway(f"{reached} of {replicas} replicas have the batch")
