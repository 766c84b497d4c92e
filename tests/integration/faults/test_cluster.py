"""The store on a Redis Cluster, whose nodes fail, come back and hand over while messages flow."""

import asyncio
import time
from pathlib import Path
from random import Random

import pytest
from redis.crc import key_slot

from store.redis import keys
from tests.cluster import TestCluster
from tests.integration.app import until
from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World
from tests.servers import valkey_program

SLOT = key_slot(keys.PREFIX)
NEVER = 0.0
TORN = ("non local key", "hash to the same slot")
"""Redis's errors for a script that touched a key of another node or slot."""


async def opened(open_world: Open, cluster: TestCluster, **settings: str) -> World:
    return await open_world(cluster.owner(SLOT), IM_REDIS_URL=cluster.url, **settings)


def assert_nothing_is_torn(world: World) -> None:
    log = world.service.log.read_text()
    assert not any(mark in log for mark in TORN)


async def test_failovers_by_hand(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """To the replica and back: nothing is lost, and nobody is told to begin anew."""
    world = await opened(open_world, cluster)
    async with Traffic(world, chance) as traffic:
        for _ in range(ROUNDS):
            traffic.start()
            for _ in range(2):
                await traffic.some()
                await asyncio.to_thread(cluster.fail_over, SLOT)
                await traffic.load.until_answered(50)
            await traffic.rest()
            await traffic.assert_each_once()
    assert world.logged()["redis_node_changed"]
    assert_nothing_is_torn(world)


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hangs"])
async def test_a_master_is_replaced_and_nothing_is_lost(
    open_world: Open, cluster: TestCluster, chance: Random, hangs: bool
) -> None:
    """An answered message is in the replica too (IM_REDIS_WAIT). A master that hung still believes that it is one."""
    world = await opened(open_world, cluster, IM_REDIS_WAIT="1")
    async with Traffic(world, chance, repeats=True) as traffic:
        for _ in range(ROUNDS):
            traffic.start()
            await traffic.load.until_answered(50)
            await traffic.some()
            lost = cluster.owner(SLOT)
            if hangs:
                lost.hang()
            else:
                lost.kill()
            taking = await asyncio.to_thread(cluster.await_failover, SLOT, lost)
            before = len(traffic.load.answered)
            await asyncio.sleep(0.5)
            assert len(traffic.load.answered) == before, "no replica is left to wait for"
            if hangs:
                lost.resume()
            else:
                await asyncio.to_thread(cluster.mend_nodes)
            await traffic.load.until_answered(50)
            await traffic.rest()
            await traffic.assert_nothing_archived_is_missing(NEVER, await traffic.archived())
            assert cluster.owner(SLOT) is taking
    assert_nothing_is_torn(world)


async def test_a_master_and_its_replica_are_killed(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """Everything is answered 503, as one line of the log says; then the service goes on where it was."""
    world = await opened(open_world, cluster)
    async with Traffic(world, chance, repeats=True) as traffic:
        traffic.start()
        await traffic.load.until_answered(50)
        gone = cluster.serving(SLOT)
        lost_at = time.monotonic()
        for node in gone:
            node.kill()
        await asyncio.sleep(1)
        before = len(traffic.load.answered)
        await asyncio.sleep(1)
        assert len(traffic.load.answered) == before
        await asyncio.to_thread(cluster.mend_nodes)
        await traffic.load.until_answered(50)
        await traffic.rest()
        safe = await traffic.archived()
        await traffic.assert_nothing_archived_is_missing(lost_at + 1, safe)
    assert_nothing_is_torn(world)


async def test_the_slot_is_moved_key_by_key(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    """Meanwhile everything is answered 503, and no script fails midway."""
    world = await opened(open_world, cluster)
    async with Traffic(world, chance) as traffic:
        traffic.start()
        await traffic.load.until_answered(50)
        to = next(node for node in cluster.running if node.master and node is not cluster.owner(SLOT))
        await asyncio.to_thread(cluster.move, SLOT, to, lambda: time.sleep(1))
        await traffic.load.until_answered(50)
        await traffic.rest()
        await traffic.assert_each_once()
    assert world.logged()["hook_try_again"]
    assert_nothing_is_torn(world)


async def test_a_node_is_added_and_takes_over_the_slot(open_world: Open, tmp_path: Path, chance: Random) -> None:
    """At once, as Valkey 9 does; then the node that had it is taken away."""
    with TestCluster(tmp_path / "valkey", valkey_program(), masters=2, replicas=0).started() as cluster:
        world = await opened(open_world, cluster)
        async with Traffic(world, chance) as traffic:
            traffic.start()
            await traffic.load.until_answered(50)
            before = cluster.owner(SLOT)
            await asyncio.to_thread(lambda: cluster.move_at_once(SLOT, cluster.add()))
            await traffic.load.until_answered(50)
            before.kill()
            await traffic.load.until_answered(50)
            await traffic.rest()
            await traffic.assert_each_once()
        assert_nothing_is_torn(world)


async def test_waiting_pulls_are_woken_after_a_failover(open_world: Open, cluster: TestCluster, chance: Random) -> None:
    world = await opened(open_world, cluster)
    async with Traffic(world, chance) as traffic:
        device = traffic.devices[0]
        await device.to_the_end()
        await asyncio.to_thread(cluster.fail_over, SLOT)

        async def answered() -> bool:
            return await traffic.load.once()

        await until(answered)
        await device.to_the_end()
        waiting = asyncio.create_task(device.page(10, 30))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await until(answered)
        await waiting
        assert time.monotonic() - began < 10, "it was not woken"
