"""Three shards on a Redis Cluster, one on each master, that fail one at a time while messages flow."""

import asyncio
from random import Random

from redis.crc import key_slot

from store.redis import keys
from store.redis.shards import shard_among
from tests.cluster import TestCluster
from tests.integration.app import new_uid
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World, start

SHARDS = 3
HOME = 0
NEVER = 0.0
KILLS = 3


def slot_of(shard: int) -> int:
    return key_slot(keys.shard_prefix(shard, SHARDS))


async def opened(open_world: Open, cluster: TestCluster, **settings: str) -> World:
    home = cluster.owner(slot_of(HOME))
    return await open_world(home, IM_REDIS_URL=cluster.url, IM_SHARDS=str(SHARDS), **settings)


def users_everywhere() -> list[str]:
    """Returns two users of each shard."""
    found: dict[int, list[str]] = {shard: [] for shard in range(SHARDS)}
    while any(len(users) < 2 for users in found.values()):
        uid = int(new_uid()) * keys.USERS_PER_BITMAP
        found[shard_among(uid, SHARDS)].append(str(uid))
    return [uid for users in found.values() for uid in users[:2]]


async def replaced(cluster: TestCluster, shard: int) -> None:
    """Kills the master of a shard, and brings the node back once its replica has taken over."""
    lost = cluster.owner(slot_of(shard))
    lost.kill()
    await asyncio.to_thread(cluster.await_failover, slot_of(shard), lost)
    await start(lost)
    await asyncio.to_thread(cluster.settle)


async def test_the_master_of_a_shard_is_replaced(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """What was answered is there once, and nobody is told to begin anew: the link has what the shard lost."""
    world = await opened(open_world, cluster)
    async with Traffic(world, chance, users=users_everywhere()) as traffic:
        traffic.start()
        await traffic.load.until_answered(50)
        await replaced(cluster, 1)
        await traffic.load.until_answered(50)
        await traffic.rest()
        await traffic.assert_each_once()
    assert world.logged()["shard_passed"]


async def test_the_master_of_the_home_is_replaced(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """What was answered is in the replica too (IM_REDIS_WAIT)."""
    world = await opened(open_world, cluster, IM_REDIS_WAIT="1")
    async with Traffic(world, chance, repeats=True, users=users_everywhere()) as traffic:
        traffic.start()
        await traffic.load.until_answered(50)
        await replaced(cluster, HOME)
        await traffic.load.until_answered(50)
        await traffic.rest()
        await traffic.assert_nothing_archived_is_missing(NEVER, await traffic.archived())


async def test_the_service_is_killed_while_it_carries(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """What it had put on links and not carried is carried by the one that comes after it."""
    world = await opened(open_world, cluster)
    async with Traffic(world, chance, users=users_everywhere()) as traffic:
        traffic.start()
        for _ in range(KILLS):
            await traffic.load.until_answered(30)
            await world.restart(world.service)
        await traffic.load.until_answered(30)
        await traffic.rest()
        await traffic.assert_each_once()
