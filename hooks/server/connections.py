"""The first step: the connections to Redis, to the archive and to EMQX."""

import contextlib
from dataclasses import dataclass

from hooks.emqx.rest import Rest
from hooks.metrics import Metrics
from hooks.settings import Settings
from store.archive.archive import Archive, open_archive
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.pipelined import PipelinedConnection
from store.redis.shards import Shards, connect_each, resolvers


@dataclass(frozen=True)
class ServiceConnections:
    """shards: for questions to each shard. blocking: for what waits for news of each. writing: one connection to the
    home, for commands in their order.

    pulling: one connection to each shard, which all pulls share. rest: EMQX's REST API; None without IM_EMQX_API_URL.
    """

    shards: Shards[RedisClient]
    blocking: Shards[RedisClient]
    writing: RedisClient
    pulling: Shards[PipelinedConnection]
    archive: Archive
    rest: Rest | None

    @property
    def redis(self) -> RedisClient:
        """Returns the client for questions to the home."""
        return self.shards.home


def make_connections(settings: Settings, metrics: Metrics, stack: contextlib.AsyncExitStack) -> ServiceConnections:
    """Makes the connections, none of which connects yet. The stack closes them."""
    broker = settings.broker
    archive = open_archive(settings.archive.archive_url)
    stack.push_async_callback(archive.close)
    nodes = resolvers(settings.redis.redis_url, settings.redis.shards)
    for node in nodes:
        stack.push_async_callback(node.aclose)
    shards, blocking = connect_each(nodes), connect_each(nodes, blocking=True)
    writing = connect(nodes.home, single=True)
    pulling = shards.map(PipelinedConnection)
    for client in (*shards, *blocking, writing, *pulling):
        stack.push_async_callback(client.aclose)
    rest = None
    if broker.emqx_api_url is not None:
        rest = Rest(broker.emqx_api_url, broker.emqx_api_key, broker.emqx_api_secret, metrics)
        stack.push_async_callback(rest.close)
    return ServiceConnections(shards, blocking, writing, pulling, archive, rest)
