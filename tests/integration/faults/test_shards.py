"""Three shards on a Redis Cluster, one on each master, that fail one at a time while messages flow."""

import asyncio
import shutil
import time
from random import Random
from typing import Any

import tests.cluster
from store.redis import keys
from store.redis.shards import shard_among
from tests.cluster import TestCluster
from tests.integration.app import new_uid_of, until
from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World, start

SHARDS = 3
HOME = 0
NEVER = 0.0


def slot_of(shard: int) -> int:
    return tests.cluster.slot_of(shard, SHARDS)


async def opened(open_world: Open, cluster: TestCluster, **settings: str) -> World:
    home = cluster.owner(slot_of(HOME))
    return await open_world(home, IM_REDIS_URL=cluster.url, IM_SHARDS=str(SHARDS), **settings)


def users_of(shard: int, count: int) -> list[str]:
    return [new_uid_of(shard, SHARDS) for _ in range(count)]


def users_everywhere() -> list[str]:
    """Returns two users of each shard."""
    return [uid for shard in range(SHARDS) for uid in users_of(shard, 2)]


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
        for _ in range(ROUNDS):
            await traffic.load.until_answered(30)
            await world.restart(world.service)
        await traffic.load.until_answered(30)
        await traffic.rest()
        await traffic.assert_each_once()


async def test_the_service_is_killed_while_a_shard_takes_nothing(
    open_world: Open, cluster: TestCluster, chance: Random
) -> None:
    """What is on the link is archived before anybody carries it, and the shard is not said to lack it."""
    world = await opened(open_world, cluster)
    archiver = world.archiver(1)
    await start(archiver)
    async with Traffic(world, chance, users=users_of(1, 12)) as traffic, world.client() as home:
        traffic.start()
        await traffic.load.until_answered(50)
        shard = cluster.owner(slot_of(1))
        shard.hang()
        try:
            # The first of them is in the hands of the shard's node; those behind it are in the service alone.
            for _ in range(2):
                await another_entry(home, 1)
            world.service.kill()
        finally:
            shard.resume()

        async def archived() -> bool:
            return not await home.xlen(keys.OUTBOX)

        await until(archived)
        await start(world.service)
        await traffic.load.until_answered(50)
        await traffic.rest()
        await traffic.assert_each_once()
    archiver.stop()


async def another_entry(home: Any, shard: int) -> None:
    """Waits until the home has put something else on the link to a shard."""
    before = await home.hget(keys.LINKS, str(shard))

    async def written() -> bool:
        return bool(await home.hget(keys.LINKS, str(shard)) != before)

    await until(written)


async def test_the_slots_of_all_shards_are_moved(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """Each to another master, key by key."""
    world = await opened(open_world, cluster)
    async with Traffic(world, chance, users=users_everywhere()) as traffic:
        traffic.start()
        await traffic.load.until_answered(50)
        masters = [node for node in cluster.nodes if node.master]
        for shard in range(SHARDS):
            before = masters.index(cluster.owner(slot_of(shard)))
            await asyncio.to_thread(cluster.move, slot_of(shard), masters[before - 1])
        await traffic.load.until_answered(50)
        await traffic.rest()
        await traffic.assert_each_once()


async def test_a_shard_is_wiped(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """The archive puts back what it had: nothing is missing, and its users are told to begin anew."""
    world = await opened(open_world, cluster)
    async with Traffic(world, chance, repeats=True, users=users_everywhere()) as traffic:
        traffic.start()
        await traffic.load.until_answered(50)
        master = cluster.owner(slot_of(1))
        lost = [master, *cluster.replicas_of(master)]
        for node in lost:
            node.kill()
        for node in lost:
            shutil.rmtree(node.directory / "appendonlydir")
        await asyncio.to_thread(cluster.mend_nodes)
        await traffic.load.until_answered(50)
        await traffic.rest()
        await traffic.assert_nothing_archived_is_missing(NEVER, await traffic.archived())
        for device in traffic.devices:
            assert len(device.epochs) == (2 if shard_among(int(device.uid), SHARDS) == 1 else 1)


async def test_the_home_is_replaced_by_a_replica_that_lagged(
    open_world: Open, cluster: TestCluster, chance: Random
) -> None:
    """Where no replica is waited for, the last that was answered may be lost: then everybody is told. Users of other
    shards keep what these had of it already.
    """
    world = await opened(open_world, cluster)
    async with Traffic(world, chance, repeats=True, users=users_everywhere()) as traffic, world.client() as home:
        traffic.start()
        await traffic.load.until_answered(50)
        master = cluster.owner(slot_of(HOME))
        replica = cluster.replicas_of(master)[0]
        # Its connection ends, and it cannot log in for another one.
        replica.ask("CONFIG", "SET", "masterauth", "wrong")
        replica.ask("CLIENT", "KILL", "TYPE", "master")
        await another_entry(home, 1)
        await traffic.load.until_answered(50)
        safe = await traffic.archived()
        master.kill()
        await asyncio.to_thread(cluster.await_failover, slot_of(HOME), master)
        lost_at = time.monotonic()
        replica.ask("CONFIG", "SET", "masterauth", "")
        await asyncio.to_thread(cluster.mend_nodes)
        await traffic.until_told(2)
        await traffic.load.until_answered(50)
        await traffic.rest()
        await traffic.assert_nothing_archived_is_missing(lost_at, safe, more=True)
