"""A ban is made in the home, and pulls meet it in the user's shard."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from store.bans.bans import Bans
from store.errors import StoreAway, UserBanned
from store.groups.groups import Limits
from store.redis.client import RedisClient
from tests.integration.groups.conftest import SPREAD, WINDOW_US, Store
from tests.servers import RedisServer

LIMITS = Limits(write=500, read=500, user=500, groups=500, made=100, known=False)


@pytest_asyncio.fixture(params=[1, 3], ids=["one shard", "three shards"])
async def store(
    request: pytest.FixtureRequest, redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[Store]:
    running = Store(redis_server.url, tmp_path, LIMITS, request.param)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def bans(store: Store) -> Bans:
    return Bans(
        *(store.redis, store.write_connection),
        window_us=WINDOW_US,
        repeat_seconds=3600,
        outbox_limit=2**30,
        links=store.links,
    )


async def shut_out(store: Store) -> set[int]:
    """Returns who cannot pull."""
    found = set()
    for uid in SPREAD:
        try:
            await store.pull(uid)
        except UserBanned:
            found.add(uid)
    return found


async def test_pulls_are_refused_until_the_ban_is_lifted(store: Store, bans: Bans) -> None:
    for uid in SPREAD[:3]:
        await bans.put(uid, 3600, "rude\nthing")
    assert await shut_out(store) == set(SPREAD[:3])
    assert {ban.uid for ban in (await bans.all()).values()} == set(SPREAD[:3])
    await bans.put(SPREAD[1], 7200, "again")
    ban = await bans.of(SPREAD[1])
    assert ban is not None
    assert ban.reason == "again"
    for uid in SPREAD[:2]:
        assert await bans.end(uid)
        assert not await bans.end(uid)
    assert await shut_out(store) == {SPREAD[2]}


async def test_bans_outlast_redis(store: Store, bans: Bans) -> None:
    for uid in SPREAD[:4]:
        await bans.put(uid, 3600, "rude")
    await bans.end(SPREAD[0])
    await store.archive_all()
    await store.redis.flushall()
    await store.recovery.ensure()
    assert await shut_out(store) == set(SPREAD[1:4]) == {*await bans.all()}


async def test_a_rebuild_brings_what_the_links_had(store: Store, bans: Bans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has carried these changes when all is rebuilt."""
    for uid in SPREAD[:3]:
        await bans.put(uid, 3600, "rude")
    monkeypatch.setattr(store.links, "carry", _away)
    for uid in SPREAD[2:]:
        with pytest.raises(StoreAway):
            await bans.put(uid, 3600, "rude")
    for uid in SPREAD[:2]:
        with pytest.raises(StoreAway):
            await bans.end(uid)
    await store.recovery.rebuild()
    assert await shut_out(store) == set(SPREAD[2:]) == {*await bans.all()}


async def _away(entries: object) -> None:
    raise StoreAway("it died")
