"""The first step: the connections to Redis, to the archive and to EMQX."""

import contextlib
from dataclasses import dataclass

from hooks.emqx.rest import Rest
from hooks.metrics import Metrics
from hooks.settings import Settings
from store.archive.archive import Archive, open_archive
from store.redis.client import RedisClient
from store.redis.connection import connect, resolver
from store.redis.pipelined import PipelinedConnection


@dataclass(frozen=True)
class ServiceConnections:
    """redis: for questions. blocking: for what waits for news. writing: one connection, for commands in their order.

    pulling: one connection that all pulls share. rest: EMQX's REST API; None without IM_EMQX_API_URL.
    """

    redis: RedisClient
    blocking: RedisClient
    writing: RedisClient
    pulling: PipelinedConnection
    archive: Archive
    rest: Rest | None


def make_connections(settings: Settings, metrics: Metrics, stack: contextlib.AsyncExitStack) -> ServiceConnections:
    """Makes the connections, none of which connects yet. The stack closes them."""
    url, broker = settings.redis.redis_url, settings.broker
    archive = open_archive(settings.archive.archive_url)
    stack.push_async_callback(archive.close)
    node = resolver(url)
    stack.push_async_callback(node.aclose)
    redis, blocking, writing = connect(node), connect(node, blocking=True), connect(node, single=True)
    pulling = PipelinedConnection(redis)
    for client in (redis, blocking, writing, pulling):
        stack.push_async_callback(client.aclose)
    rest = None
    if broker.emqx_api_url is not None:
        rest = Rest(broker.emqx_api_url, broker.emqx_api_key, broker.emqx_api_secret, metrics)
        stack.push_async_callback(rest.close)
    return ServiceConnections(redis, blocking, writing, pulling, archive, rest)
