"""What `emqx-im doctor` finds of Redis and the archive."""

from pathlib import Path

import pytest

from hooks.doctor import CheckState, stores
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect
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
