"""Reads what Redis and the archive are and how they are set up, for operators. Nothing is changed."""

import time
from dataclasses import dataclass
from typing import Any

from store.archive.archive import Archive
from store.errors import RedisRefused, StoreUnknown
from store.redis import keys
from store.redis.client import RedisClient
from store.timelines.layout import require_known, require_not_resharding, require_shards


@dataclass(frozen=True)
class NodeState:
    """One server, which may be a node of a cluster.

    product: `redis` or `valkey`. appendfsync, packed: None if the server does not let it be asked.

    packed: entries up to which a sorted set takes little memory. maxmemory, used: bytes; maxmemory 0 is unbounded.
    offset: its clock less ours, seconds.
    """

    product: str
    version: tuple[int, ...]
    aof: bool
    appendfsync: str | None
    packed: int | None
    eviction: str
    maxmemory: int
    used: int
    replica: bool
    cluster: bool
    offset: float


@dataclass(frozen=True)
class RedisState:
    """The server that has the store. earlier: whether it holds a store of the layout before. unknown: what is wrong if
    it holds one that this version does not know, else "". outbox: bytes."""

    server: NodeState
    epoch: bool
    earlier: bool
    unknown: str
    outbox: int


@dataclass(frozen=True)
class ArchiveState:
    """product: `mysql`, `mariadb` or `sqlite`; SQLite has a version of (), no months, and our clock.

    pending: migrations to apply. missing: months ahead that have no partition. offset: its clock less ours, seconds.
    """

    product: str
    version: tuple[int, ...]
    pending: list[str]
    missing: list[str]
    offset: float


async def redis_state(redis: RedisClient, shards: int = 1) -> RedisState:
    """Returns what the home is. shards: how many there are to be. Raises StoreAway."""
    read: Any = await redis.mget(
        *(keys.EPOCH, keys.OUTBOX_BYTES, keys.EARLIER_EPOCH, keys.LAYOUT, keys.SHARDS, keys.RESHARDING)
    )
    epoch, outbox, earlier, layout, has, resharding = read
    return RedisState(
        server=await node_state(redis),
        epoch=epoch is not None,
        earlier=layout is None and earlier is not None,
        unknown=_unknown(layout, has, resharding, shards),
        outbox=int(outbox or 0),
    )


async def node_state(redis: RedisClient) -> NodeState:
    """Returns what the server of this client is. Raises StoreAway."""
    asked = time.time()
    seconds, microseconds = await redis.time()
    offset = seconds + microseconds / 1e6 - (asked + time.time()) / 2
    info: dict[str, Any] = await redis.info()
    appendfsync = await configured(redis, "appendfsync")
    packed = await configured(redis, "zset-max-listpack-entries")
    valkey = info.get("valkey_version")
    return NodeState(
        product="valkey" if valkey else "redis",
        version=_version(str(valkey or info["redis_version"])),
        aof=bool(info["aof_enabled"]),
        appendfsync=appendfsync,
        packed=None if packed is None else int(packed),
        eviction=info["maxmemory_policy"],
        maxmemory=info["maxmemory"],
        used=info["used_memory"],
        replica=info["role"] != "master",
        cluster=bool(info.get("cluster_enabled")),
        offset=offset,
    )


async def archive_state(archive: Archive) -> ArchiveState:
    """Raises ArchiveAway."""
    await archive.ping()
    pending = await archive.pending_migrations()
    asked = time.time()
    state = await archive.server_state(time.time_ns() // 1000)
    offset = state.clock / 1e6 - (asked + time.time()) / 2
    version = _version(state.version) if state.version else ()
    return ArchiveState(state.product, version, pending, state.missing if not pending else [], offset)


def _unknown(layout: Any, has: Any, resharding: Any, shards: int) -> str:
    try:
        require_known(layout)
        require_not_resharding(resharding)
        require_shards(layout, has, shards)
    except StoreUnknown as error:
        return str(error)
    return ""


async def configured(redis: RedisClient, name: str) -> str | None:
    """Returns one setting of Redis; None if it does not tell, as a hosted one may refuse."""
    try:
        return (await redis.config_get(name)).get(name)
    except RedisRefused:
        return None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-")[0].split(".")[:3] if part.isdecimal())
