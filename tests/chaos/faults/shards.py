"""What happens to three shards on a cluster: the home and two others, each on another master until slots are moved."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.chaos.deployment import SHARDED, SHARDS, UNWAITED, address_of
from tests.chaos.faults import Play, fault
from tests.chaos.faults.cluster import cluster_of, done
from tests.chaos.faults.processes import away
from tests.chaos.faults.redis import begun
from tests.chaos.history import Loss
from tests.chaos.scene import Scene
from tests.cluster import NODE_TIMEOUT, ClusterNode, TestCluster, slot_of
from tests.integration.faults.world import start

_HOME = 0
_NOTHING = 0.0
"""The end of a loss that took nothing with it that was acknowledged: everybody is told to begin anew."""
_ANSWERED_SECONDS = NODE_TIMEOUT
"""Every answer that a node that was killed had a part in has come by then, and no other node has taken over yet."""
_OPERATOR = "127.0.0.1"
"""From where the service speaks."""


def on_shards(name: str, **options: bool) -> Callable[[Play], Play]:
    return fault(f"shards: {name}", kind=SHARDED, **options)


def unwaited(name: str, **options: bool) -> Callable[[Play], Play]:
    return fault(f"shards without IM_REDIS_WAIT: {name}", kind=UNWAITED, **options)


def _slot(shard: int) -> int:
    return slot_of(shard, SHARDS)


async def _home(scene: Scene) -> int:
    return _HOME


async def _other(scene: Scene) -> int:
    """Returns a shard beside the home, on another node than it, where slots had been moved to the same."""
    cluster, shard = cluster_of(scene), scene.dice.choice(range(1, SHARDS))

    def part() -> None:
        home = cluster.owner(_slot(_HOME))
        if cluster.owner(_slot(shard)) is home:
            others = [node for node in cluster.running if node.master and node is not home]
            cluster.move_at_once(_slot(shard), scene.dice.choice(others))

    await done(part)
    return shard


async def _master(scene: Scene, shard: int) -> ClusterNode:
    return await done(cluster_of(scene).owner, _slot(shard))


async def _replaced(scene: Scene, shard: int) -> None:
    cluster = cluster_of(scene)
    master = await _master(scene, shard)
    master.kill()
    await done(cluster.await_failover, _slot(shard), master)
    await away(scene)
    await done(cluster.mend_nodes)


async def _with_replica(scene: Scene, shard: int) -> list[ClusterNode]:
    cluster = cluster_of(scene)
    return await done(lambda: [(master := cluster.owner(_slot(shard))), *cluster.replicas_of(master)])


async def _killed(scene: Scene, nodes: list[ClusterNode]) -> None:
    for node in nodes:
        node.kill()
    await away(scene)
    await done(cluster_of(scene).mend_nodes)


@on_shards("home killed")
async def home_killed(scene: Scene) -> None:
    """kill -9 of the home's master; its replica takes over, and the old master becomes the replica."""
    await _replaced(scene, _HOME)


@on_shards("a shard killed")
async def shard_killed(scene: Scene) -> None:
    """The same with the master of another shard."""
    await _replaced(scene, await _other(scene))


@on_shards("home and its replica killed")
async def home_gone(scene: Scene) -> None:
    """kill -9 of the home's master and its replica at once, and a start up to two seconds later."""
    await _killed(scene, await _with_replica(scene, _HOME))


@on_shards("a shard and its replica killed")
async def shard_gone(scene: Scene) -> None:
    """The same with another shard."""
    await _killed(scene, await _with_replica(scene, await _other(scene)))


@on_shards("two masters killed")
async def two_killed(scene: Scene) -> None:
    """kill -9 of two of three masters at once, after which nobody may elect others, and a start up to two seconds
    later.
    """
    chosen = scene.dice.sample(range(SHARDS), 2)
    nodes = [await _master(scene, shard) for shard in chosen]
    await _killed(scene, list(dict.fromkeys(nodes)))


def _frozen(which: str, shard_of: Callable[[Scene], Awaitable[int]], seconds: int) -> None:
    async def frozen(scene: Scene) -> None:
        cluster = cluster_of(scene)
        node = await _master(scene, await shard_of(scene))
        node.hang()
        try:
            await asyncio.sleep(seconds)
        finally:
            node.resume()
        await done(cluster.settle)

    frozen.__doc__ = f"SIGSTOP of the master for {seconds} s; its replica takes over, and has none itself meanwhile."
    on_shards(f"{which} hangs for {seconds} s")(frozen)


for _seconds in (3, 30):
    _frozen("home", _home, _seconds)
    _frozen("a shard", _other, _seconds)


@on_shards("failover by hand")
async def failed_over(scene: Scene) -> None:
    """CLUSTER FAILOVER on the replica of each shard, one after the other."""
    cluster = cluster_of(scene)
    for shard in range(SHARDS):
        await done(cluster.fail_over, _slot(shard))
        await done(cluster.settle)


def _moved(how: str, what: str, move: Callable[[TestCluster, int, ClusterNode], None]) -> None:
    async def moved(scene: Scene) -> None:
        cluster = cluster_of(scene)

        def moves() -> None:
            for shard in range(SHARDS):
                before = cluster.owner(_slot(shard))
                others = [node for node in cluster.running if node.master and node is not before]
                move(cluster, _slot(shard), scene.dice.choice(others))

        await done(moves)

    moved.__doc__ = what
    on_shards(f"slots moved {how}")(moved)


_moved("key by key", "The slot of each shard is moved to another master, as Redis 7 does.", TestCluster.move)
_moved("at once", "The slot of each shard is moved to another master, as Valkey 9 does.", TestCluster.move_at_once)


async def _emptied(scene: Scene, shard: int, loss: Loss) -> None:
    """Kills a shard's nodes, and starts them with empty disks, but for what they know of the cluster."""
    nodes = await _with_replica(scene, shard)
    for node in nodes:
        node.kill()
    await asyncio.sleep(_ANSWERED_SECONDS)
    for node in nodes:
        shutil.rmtree(node.directory / "appendonlydir")
    loss.ended = time.monotonic() if shard == _HOME else _NOTHING
    await done(cluster_of(scene).mend_nodes)


@on_shards("a shard wiped")
async def shard_wiped(scene: Scene) -> None:
    """kill -9 of a shard beside the home and of its replica, and a start with empty disks: nothing may be lost, and
    everybody is told to begin anew.
    """
    scene.history.losses.append(loss := Loss(time.monotonic(), ended=_NOTHING))
    await _emptied(scene, await _other(scene), loss)


@on_shards("home wiped", loses=True)
async def home_wiped(scene: Scene) -> None:
    """kill -9 of the home and its replica, and a start with empty disks."""
    await _emptied(scene, _HOME, await begun(scene))


async def _while_carrying(scene: Scene, kill: Callable[[], object]) -> None:
    """Kills while one shard holds up whatever is carried to it."""
    node = await _master(scene, await _other(scene))
    node.hang()
    try:
        await asyncio.sleep(scene.dice.uniform(0.1, NODE_TIMEOUT / 2))
        kill()
    finally:
        node.resume()


@on_shards("service killed between home and link")
async def service_killed(scene: Scene) -> None:
    """kill -9 of all processes of the service while one shard takes nothing, so that what the home has given ids to is
    on the link and not applied, and a start up to two seconds later.
    """
    await _while_carrying(scene, lambda: scene.deployment.kill(scene.deployment.service))
    await away(scene)
    await start(scene.deployment.service)


@on_shards("a carrier killed")
async def carrier_killed(scene: Scene) -> None:
    """kill -9 of one worker of the service while one shard takes nothing; the other one carries what is left."""

    def kill() -> None:
        workers = scene.deployment.processes(scene.deployment.service)[1:]
        if workers:
            os.kill(scene.dice.choice(workers), signal.SIGKILL)

    await _while_carrying(scene, kill)


@on_shards("clocks apart")
async def clocks_apart(scene: Scene) -> None:
    """The clock of each node steps by up to five seconds, ahead or back, and right again after some seconds."""
    clocks = [node.clock for node in cluster_of(scene).nodes if node.clock is not None]
    for clock in clocks:
        clock.set(scene.dice.randint(-5, 5))
    try:
        await asyncio.sleep(scene.dice.uniform(3, 8))
    finally:
        for clock in clocks:
            clock.set(0)
    await done(cluster_of(scene).settle)


@contextlib.asynccontextmanager
async def _apart(scene: Scene, node: ClusterNode, *, from_service: bool) -> AsyncIterator[None]:
    """Nothing gets from a node to the others, or from them to it; nor from the service, if so said."""
    nodes, network = cluster_of(scene).nodes, scene.deployment.network
    alone = nodes.index(node)
    others = {address_of(number) for number in range(len(nodes)) if number != alone}
    refused = {
        number: others | ({_OPERATOR} if from_service else set()) if number == alone else {address_of(alone)}
        for number in range(len(nodes))
    }
    for number, addresses in refused.items():
        for link in (f"bus {number}", f"node {number}"):
            await network.refuse(link, addresses)
    try:
        yield
    finally:
        for number in refused:
            for link in (f"bus {number}", f"node {number}"):
                await network.refuse(link, ())


async def _parted(scene: Scene, *, from_service: bool) -> None:
    cluster = cluster_of(scene)
    shard = scene.dice.randrange(SHARDS)
    node = await _master(scene, shard)
    async with _apart(scene, node, from_service=from_service):
        await done(cluster.await_failover, _slot(shard), node)
        await away(scene)
    await done(cluster.settle)


@on_shards("a master cut off")
async def cut_off(scene: Scene) -> None:
    """Nothing gets to or from one master, until its replica has taken over and up to two seconds more."""
    await _parted(scene, from_service=True)


@on_shards("a master cut off from the other nodes")
async def parted(scene: Scene) -> None:
    """The same, but the service still reaches the master, which believes for a while that it is one."""
    await _parted(scene, from_service=False)


@unwaited("home killed ahead of its replica", loses=True)
async def home_ahead(scene: Scene) -> None:
    """kill -9 of the home's master; its replica lacks what was written in the last tenths of a second, and takes
    over: that is lost as far as it is not archived, and everybody is told to begin anew.
    """
    await _ahead(scene, _HOME, await begun(scene))


@unwaited("a shard killed ahead of its replica")
async def shard_ahead(scene: Scene) -> None:
    """The same with another shard: its link has what the replica lacks."""
    await _ahead(scene, await _other(scene), None)


async def _ahead(scene: Scene, shard: int, loss: Loss | None) -> None:
    cluster = cluster_of(scene)
    master, replica = await _with_replica(scene, shard)

    def fall_behind() -> None:
        # Its connection ends, and it cannot log in for another one.
        replica.ask("CONFIG", "SET", "masterauth", "wrong")
        replica.ask("CLIENT", "KILL", "TYPE", "master")

    await done(fall_behind)
    await asyncio.sleep(scene.dice.uniform(0.1, 0.5))
    master.kill()
    await asyncio.sleep(_ANSWERED_SECONDS)
    if loss is not None:
        loss.ended = time.monotonic()
    await done(cluster.await_failover, _slot(shard), master)
    await done(replica.ask, "CONFIG", "SET", "masterauth", "")
    await away(scene)
    await done(cluster.mend_nodes)


@unwaited("home and its replica killed")
async def both_killed(scene: Scene) -> None:
    """kill -9 of both at once, and a start up to two seconds later: their disks have everything."""
    await _killed(scene, await _with_replica(scene, _HOME))
