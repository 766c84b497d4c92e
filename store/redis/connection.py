"""Clients of Redis: no silent retries, no wait without end."""

from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from store.errors import StoreAway
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.pipelined import RedisConnection
from store.redis.resolver import NodeResolver, connections_to
from store.redis.scripts import script

_MAX_CONNECTIONS = 10_000
"""As many as Redis takes by itself. redis-py's own bound of 100 fails the 101st command at a time."""
_MARK = script("mark", int)


def resolver(url: str, prefix: bytes = keys.PREFIX) -> NodeResolver:
    """Returns what finds the node of the shard whose keys begin so, for all clients of a process. Raises ValueError."""
    return NodeResolver(url, prefix)


def connect(
    where: str | NodeResolver,
    *,
    timeout: float = 2.0,
    blocking: bool = False,
    single: bool = False,
    prefix: bytes = keys.PREFIX,
) -> RedisClient:
    """Returns a client whose commands end within `timeout` seconds; a `blocking` one waits for its answers as long as
    asked.

    where: an URL as in IM_REDIS_URL, or what is shared with other clients of the shard. A `single` client has one
    connection, for a caller whose commands must follow each other on it. prefix: how the keys of the shard begin, with
    an URL.

    A command is never repeated behind the caller's back: what was written but not answered is the caller's to know.
    Raises ValueError for an URL that is malformed.
    """
    found = resolver(where, prefix) if isinstance(where, str) else where
    connection_class, options = connections_to(found)
    pool = ConnectionPool(
        connection_class,
        _MAX_CONNECTIONS,
        **{
            "socket_timeout": None if blocking else timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,
            **options,
        },
    )
    client = RedisClient(connection_pool=pool, single_connection_client=single)
    client.auto_close_connection_pool = True
    client.resolver = found
    client.prefix = found.prefix
    return client


async def wait_for_replicas(redis: RedisClient | RedisConnection, replicas: int, *, has_written: bool = False) -> None:
    """Returns once so many replicas have what this client wrote, and what it found that others had written: WAIT counts
    for one connection, so it must be a `single` one. has_written: the last command certainly wrote something.

    Raises StoreAway, also if that connection was lost meanwhile: the next one may be to another node, or every replica
    may have what was written on it, which is nothing.
    """
    if not replicas:
        return
    connects = redis.connects
    if not has_written:
        await _MARK.run(redis, mark_key=keys.MARK)
    reached: Any = await redis.execute_command("WAIT", replicas, 1000)
    if redis.connects != connects:
        raise StoreAway("the connection was lost before replicas had the batch")
    if reached < replicas:
        raise StoreAway(f"{reached} of {replicas} replicas have the batch")
