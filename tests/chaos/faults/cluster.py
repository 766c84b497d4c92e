"""What happens to a Redis Cluster, whose masters have a replica each, and whose one slot that matters has the store."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from redis.crc import key_slot

from store.redis import keys
from tests.chaos.deployment import CLUSTER
from tests.chaos.faults import Play, fault
from tests.chaos.faults.processes import away
from tests.chaos.scene import Scene
from tests.cluster import TestCluster

_SLOT = key_slot(keys.PREFIX)

T = TypeVar("T")


def _cluster(scene: Scene) -> TestCluster:
    assert scene.deployment.cluster is not None
    return scene.deployment.cluster


async def _done(work: Callable[..., T], *arguments: object) -> T:
    """Waits for the nodes, which takes a thread."""
    return await asyncio.to_thread(work, *arguments)


def on_cluster(name: str) -> Callable[[Play], Play]:
    return fault(f"cluster: {name}", kind=CLUSTER)


@on_cluster("master killed")
async def master_killed(scene: Scene) -> None:
    """kill -9 of the store's master; its replica takes over, and the old master becomes the replica."""
    cluster = _cluster(scene)
    master = await _done(cluster.owner, _SLOT)
    master.kill()
    await _done(cluster.await_failover, _SLOT, master)
    await away(scene)
    await _done(cluster.mend_nodes)


@on_cluster("master hangs")
async def master_hangs(scene: Scene) -> None:
    """SIGSTOP of the store's master until its replica has taken over; then it goes on and believes that it is one."""
    cluster = _cluster(scene)
    master = await _done(cluster.owner, _SLOT)
    master.hang()
    try:
        await _done(cluster.await_failover, _SLOT, master)
    finally:
        master.resume()
    await _done(cluster.settle)


@on_cluster("replica killed")
async def replica_killed(scene: Scene) -> None:
    """kill -9 of the replica, without which nothing new is taken (`IM_REDIS_WAIT=1`), and a start up to two seconds
    later.
    """
    cluster = _cluster(scene)
    for replica in (await _done(cluster.serving, _SLOT))[1:]:
        replica.kill()
    await away(scene)
    await _done(cluster.mend_nodes)


@on_cluster("master and replica killed")
async def both_killed(scene: Scene) -> None:
    """kill -9 of the store's master and its replica at once, and a start up to two seconds later."""
    cluster = _cluster(scene)
    for node in await _done(cluster.serving, _SLOT):
        node.kill()
    await away(scene)
    await _done(cluster.mend_nodes)


@on_cluster("failover by hand")
async def failed_over(scene: Scene) -> None:
    """CLUSTER FAILOVER on the replica."""
    await _done(_cluster(scene).fail_over, _SLOT)
    await _done(_cluster(scene).settle)


@on_cluster("slot moved")
async def moved(scene: Scene) -> None:
    """The store's slot is moved to another master, key by key."""
    cluster = _cluster(scene)

    def move() -> None:
        before = cluster.owner(_SLOT)
        others = [node for node in cluster.running if node.master and node is not before]
        cluster.move(_SLOT, scene.dice.choice(others))

    await _done(move)
