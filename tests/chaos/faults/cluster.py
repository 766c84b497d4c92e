"""What happens to a Redis Cluster, whose masters have a replica each, and whose one slot that matters has the store."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from tests.chaos.deployment import CLUSTER
from tests.chaos.faults import Play, fault
from tests.chaos.faults.processes import away
from tests.chaos.scene import Scene
from tests.cluster import TestCluster, slot_of

_SLOT = slot_of(0, 1)

T = TypeVar("T")


def cluster_of(scene: Scene) -> TestCluster:
    assert scene.deployment.cluster is not None
    return scene.deployment.cluster


async def done(work: Callable[..., T], *arguments: object) -> T:
    """Waits for the nodes, which takes a thread."""
    return await asyncio.to_thread(work, *arguments)


def on_cluster(name: str) -> Callable[[Play], Play]:
    return fault(f"cluster: {name}", kind=CLUSTER)


@on_cluster("master killed")
async def master_killed(scene: Scene) -> None:
    """kill -9 of the store's master; its replica takes over, and the old master becomes the replica."""
    cluster = cluster_of(scene)
    master = await done(cluster.owner, _SLOT)
    master.kill()
    await done(cluster.await_failover, _SLOT, master)
    await away(scene)
    await done(cluster.mend_nodes)


@on_cluster("master hangs")
async def master_hangs(scene: Scene) -> None:
    """SIGSTOP of the store's master until its replica has taken over; then it goes on and believes that it is one."""
    cluster = cluster_of(scene)
    master = await done(cluster.owner, _SLOT)
    master.hang()
    try:
        await done(cluster.await_failover, _SLOT, master)
    finally:
        master.resume()
    await done(cluster.settle)


@on_cluster("replica killed")
async def replica_killed(scene: Scene) -> None:
    """kill -9 of the replica, without which nothing new is taken (`IM_REDIS_WAIT=1`), and a start up to two seconds
    later.
    """
    cluster = cluster_of(scene)
    for replica in (await done(cluster.serving, _SLOT))[1:]:
        replica.kill()
    await away(scene)
    await done(cluster.mend_nodes)


@on_cluster("master and replica killed")
async def both_killed(scene: Scene) -> None:
    """kill -9 of the store's master and its replica at once, and a start up to two seconds later."""
    cluster = cluster_of(scene)
    for node in await done(cluster.serving, _SLOT):
        node.kill()
    await away(scene)
    await done(cluster.mend_nodes)


@on_cluster("failover by hand")
async def failed_over(scene: Scene) -> None:
    """CLUSTER FAILOVER on the replica."""
    await done(cluster_of(scene).fail_over, _SLOT)
    await done(cluster_of(scene).settle)


@on_cluster("slot moved")
async def moved(scene: Scene) -> None:
    """The store's slot is moved to another master, key by key."""
    cluster = cluster_of(scene)

    def move() -> None:
        before = cluster.owner(_SLOT)
        others = [node for node in cluster.running if node.master and node is not before]
        cluster.move(_SLOT, scene.dice.choice(others))

    await done(move)
