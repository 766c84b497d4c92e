"""Tests what `emqx-im doctor` finds of Redis and the archive."""

from pathlib import Path

import pytest
from redis.crc import key_slot

from hooks.doctor import CheckState, stores
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect
from tests.cluster import NODE_TIMEOUT, ClusterNode, TestCluster
from tests.integration.emqx.conftest import Run
from tests.integration.emqx.findings import bad, only
from tests.servers import MariaServer, RedisServer, program


async def test_redis(redis: RedisClient, redis_server: RedisServer) -> None:
    await redis.config_set("maxmemory", 2**30)
    found = await stores.redis(redis_server.url)
    await redis.config_set("maxmemory", 0)
    assert "has no epoch" in only(found).what


@pytest.mark.parametrize(
    ("name", "value", "state", "told"),
    [
        ("maxmemory-policy", "allkeys-lru", CheckState.FAIL, "vanish silently"),
        ("appendfsync", "everysec", CheckState.WARN, "appendfsync is everysec"),
        ("appendonly", "no", CheckState.FAIL, "no AOF"),
        ("maxmemory", "0", CheckState.WARN, "no maxmemory"),
        ("maxmemory", "1mb", CheckState.WARN, "% of maxmemory"),
        ("zset-max-listpack-entries", "64", CheckState.WARN, "zset-max-listpack-entries is 64"),
    ],
)
async def test_a_redis_that_would_lose(
    name: str, value: str, state: CheckState, told: str, redis: RedisClient, redis_server: RedisServer
) -> None:
    as_deployed = {
        **{"maxmemory": "0", "maxmemory-policy": "noeviction", "appendfsync": "always", "appendonly": "yes"},
        "zset-max-listpack-entries": "128",
    }
    await redis.config_set("maxmemory", 2**30)
    await redis.config_set(name, value)
    try:
        found = await stores.redis(redis_server.url)
    finally:
        for setting, good in as_deployed.items():
            await redis.config_set(setting, good)
    assert [finding.state for finding in bad(found) if told in finding.what] == [state], found


async def test_a_store_of_another_version(redis: RedisClient, redis_server: RedisServer) -> None:
    await redis.set(keys.EARLIER_EPOCH, "old")
    found = await stores.redis(redis_server.url)
    assert [finding.state for finding in bad(found) if "earlier version" in finding.what] == [CheckState.WARN]
    await redis.set(keys.LAYOUT, "9")
    found = await stores.redis(redis_server.url)
    assert [finding.state for finding in bad(found) if "im:{s0}:layout in Redis is '9'" in finding.what] == [
        CheckState.FAIL
    ]


async def test_a_redis_that_is_a_replica(tmp_path: Path, redis_server: RedisServer) -> None:
    replica = RedisServer(tmp_path, program("redis-server"))
    replica.start()
    try:
        async with connect(replica.url) as client:
            await client.execute_command("REPLICAOF", "127.0.0.1", str(redis_server.port))
        found = await stores.redis(replica.url)
    finally:
        replica.stop()
    assert any("replica" in finding.what and finding.state is CheckState.FAIL for finding in found)


async def test_a_redis_that_is_away() -> None:
    assert "does not answer" in only(await stores.redis("redis://127.0.0.1:1")).what


async def test_an_archive_from_empty_to_ready(maria_server: MariaServer, maria_url: str, run: Run) -> None:
    assert "not up to date, these are missing: 001_message" in only(await stores.archive(maria_url)).what
    assert (await run("migrate", IM_ARCHIVE_URL=maria_url)).status == 0
    assert bad(await stores.archive(maria_url)) == []


async def test_an_archive_that_is_away() -> None:
    found = await stores.archive("mysql://root@127.0.0.1:1/x")
    assert "does not answer" in only(found).what


async def test_a_cluster_that_is_as_it_should_be(cluster: TestCluster) -> None:
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "maxmemory", 2**30)
    found = await stores.redis(cluster.url)
    owner = cluster.owner(key_slot(keys.PREFIX))
    replica = cluster.replicas_of(owner)[0]
    said = f"127.0.0.1:{owner.port} has the store; 127.0.0.1:{replica.port} takes over if it is lost"
    assert said in [finding.what for finding in found if finding.state is CheckState.OK]
    assert "all 16384 slots are served" in [finding.what for finding in found]
    # In tests no node waits for its disk.
    rest = [finding for finding in bad(found) if "appendfsync" not in finding.what]
    assert [finding.what for finding in rest] == ["is empty: it has no epoch"]
    assert len(bad(found)) - len(rest) == len(cluster.nodes)


@pytest.mark.parametrize(
    ("name", "wrong", "right", "told"),
    [
        ("cluster-require-full-coverage", "yes", "no", "slots that the store does not need can stop it"),
        ("cluster-node-timeout", "15000", str(int(NODE_TIMEOUT * 1000)), "cluster-node-timeout is 15 s"),
        ("maxmemory-policy", "allkeys-lru", "noeviction", "maxmemory-policy is allkeys-lru"),
    ],
)
async def test_a_cluster_that_is_set_up_badly(
    name: str, wrong: str, right: str, told: str, cluster: TestCluster
) -> None:
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", name, wrong)
    try:
        found = bad(await stores.redis(cluster.url))
    finally:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", name, right)
    subjects = {finding.subject for finding in found if told in finding.what}
    others = {f"Redis 127.0.0.1:{node.port}" for node in cluster.nodes} - {
        f"Redis 127.0.0.1:{cluster.owner(key_slot(keys.PREFIX)).port}"
    }
    assert subjects == ({"Redis", *others} if name == "maxmemory-policy" else {"Redis Cluster"})


async def test_a_cluster_that_lacks_something(cluster: TestCluster) -> None:
    owner = cluster.owner(key_slot(keys.PREFIX))
    cluster.replicas_of(owner)[0].kill()
    other = next(node for node in cluster.running if node.master and node is not owner)
    other.ask("CLUSTER", "DELSLOTS", slot := _first_slot(other))
    try:
        cluster.until(lambda: "fail" in _flags(owner, cluster))
        owner.ask("CLUSTER", "DELSLOTS", slot)
        said = [finding.what for finding in bad(await stores.redis(cluster.url))]
    finally:
        other.ask("CLUSTER", "ADDSLOTS", slot)
        other.ask("CLUSTER", "BUMPEPOCH")
    assert f"127.0.0.1:{owner.port} has the store and no replica" in " ".join(said)
    assert "1 slots are served by no node" in said
    assert any("has failed" in each for each in said)


def _first_slot(node: ClusterNode) -> int:
    return next(int(first) for first, _, master, *_ in node.ask("CLUSTER", "SLOTS") if int(master[1]) == node.port)


def _flags(node: ClusterNode, cluster: TestCluster) -> list[str]:
    """Returns what a node says of those that do not run."""
    gone = [each.port for each in cluster.nodes if not each.running]
    lines = str(node.ask("CLUSTER", "NODES")).splitlines()
    return [flag for line in lines for flag in line.split()[2].split(",") if any(f":{port}@" in line for port in gone)]


async def test_shards_on_a_cluster(cluster: TestCluster) -> None:
    """Where each shard lies is told, and when one node has much more than another."""
    places = [cluster.owner(key_slot(keys.shard_prefix(shard, 8))) for shard in range(8)]
    said = [finding.what for finding in await stores.redis(cluster.url, 8)]
    for node in set(places):
        shards = ", ".join(str(shard) for shard, place in enumerate(places) if place is node)
        assert any(what.startswith(f"127.0.0.1:{node.port} has shards {shards}; ") for what in said), said
    assert not any("unevenly" in what for what in said)
    moved = [shard for shard in range(8) if places[shard] is not places[0]][:3]
    for shard in moved:
        cluster.move(key_slot(keys.shard_prefix(shard, 8)), places[0])
    (uneven,) = [each for each in bad(await stores.redis(cluster.url, 8)) if "unevenly" in each.what]
    assert uneven.state is CheckState.WARN
    for shard in moved:
        cluster.move(key_slot(keys.shard_prefix(shard, 8)), places[shard])
