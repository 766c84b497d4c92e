"""A lease of two processes: one has it at a time."""

import pytest

from store.errors import StoreAway
from store.redis.client import RedisClient
from store.redis.lease import Lease, PeriodicLease
from store.redis.shards import on_one_server
from tests.servers import RedisServer

NAME = b"im:{s0}:lease"
OTHER = b"im:{s0}:done"


async def test_one_has_it_at_a_time(redis: RedisClient) -> None:
    first, second = Lease(redis, NAME), Lease(redis, NAME)
    assert await first.take()
    assert not await second.take()
    assert not await first.take()
    await first.keep()
    await first.leave()
    assert await second.take()


async def test_a_process_that_does_not_have_it_takes_nothing_away(redis: RedisClient) -> None:
    first, second = Lease(redis, NAME), Lease(redis, NAME)
    await second.leave()
    assert await first.take()
    with pytest.raises(StoreAway, match="taken over"):
        await second.keep()
    await second.leave()
    await first.keep()


async def test_a_process_that_was_silent_too_long_hears_that_another_took_over(redis: RedisClient) -> None:
    first, second = Lease(redis, NAME, 30), Lease(redis, NAME, 30)
    assert await first.take()
    assert 0 < await redis.pttl(NAME) <= 30_000
    await redis.pexpire(NAME, 1_000)
    await first.keep()
    assert await redis.pttl(NAME) > 20_000
    await redis.delete(NAME)
    assert await second.take()
    with pytest.raises(StoreAway, match="taken over"):
        await first.keep()
    await first.leave()
    await second.keep()


async def test_when_the_work_was_done_last_is_known_to_all(redis: RedisClient) -> None:
    first, second = PeriodicLease(redis, NAME, OTHER), PeriodicLease(redis, NAME, OTHER)
    assert await second.last() == 0
    await first.complete(1_700_000_000_000)
    assert await second.last() == 1_700_000_000_000


async def test_each_shard_has_leases_of_its_own(redis: RedisClient, redis_server: RedisServer) -> None:
    shards = on_one_server(redis_server.url, 3)
    leases = [PeriodicLease(client, NAME, OTHER) for client in shards]
    for shard, lease in enumerate(leases):
        assert await lease.take()
        assert not await PeriodicLease(shards[shard], NAME, OTHER).take()
        await lease.complete(shard + 1)
    for lease in leases:
        await lease.keep()
    assert [await lease.last() for lease in leases] == [1, 2, 3]
    assert {name async for name in redis.scan_iter()} == {each.key(key) for each in shards for key in (NAME, OTHER)}
    for client in shards:
        await client.aclose()
