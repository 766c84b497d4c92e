"""Faults of Redis: a disk that is full or lost, memory that is full, a long start, and clocks that step."""

import asyncio
import shutil
import time

from tests.chaos.deployment import CLOCKED
from tests.chaos.faults import fault
from tests.chaos.history import Loss
from tests.chaos.scene import Scene
from tests.integration.app import until
from tests.integration.faults.clocked import ClockedRedis
from tests.integration.faults.world import start

_SETTLE_SECONDS = 1.0
"""After a kill: every answer that was on its way has come by then."""


async def begun(scene: Scene) -> Loss:
    """Notes what is archived, and that everything else may be gone from now on."""
    loss = Loss(time.monotonic(), archived=frozenset(await scene.deployment.archived(scene.began_at)))
    scene.history.losses.append(loss)
    return loss


@fault("Redis: wiped", single=True, loses=True)
async def wiped(scene: Scene) -> None:
    """kill -9, and a start with an empty disk."""
    redis = scene.deployment.redis
    loss = await begun(scene)
    redis.kill()
    await asyncio.sleep(_SETTLE_SECONDS)
    shutil.rmtree(redis.directory)
    redis.directory.mkdir()
    loss.ended = time.monotonic()
    await start(redis)


@fault("Redis: flushed", single=True, loses=True)
async def flushed(scene: Scene) -> None:
    """FLUSHALL: the same server, with everything gone under its clients' hands."""
    loss = await begun(scene)
    async with scene.deployment.client() as redis:
        await redis.flushall()
    await asyncio.sleep(_SETTLE_SECONDS)
    loss.ended = time.monotonic()


@fault("Redis: restored to an older state", single=True, loses=True)
async def restored(scene: Scene) -> None:
    """kill -9, and a start with a copy of the disk that is up to three seconds old."""
    redis = scene.deployment.redis
    copy = redis.directory.with_name("copy")
    redis.hang()
    try:
        await asyncio.to_thread(shutil.copytree, redis.directory, copy)
    finally:
        redis.resume()
    await asyncio.sleep(scene.dice.uniform(0, 3))
    loss = await begun(scene)
    redis.kill()
    await asyncio.sleep(_SETTLE_SECONDS)
    shutil.rmtree(redis.directory)
    copy.rename(redis.directory)
    loss.ended = time.monotonic()
    await start(redis)


@fault("Redis: out of memory", single=True)
async def out_of_memory(scene: Scene) -> None:
    """`maxmemory` is what is used already, for some seconds."""
    async with scene.deployment.client() as redis:
        used = int((await redis.info("memory"))["used_memory"])
        await redis.config_set("maxmemory", used + scene.dice.randint(0, 2**20))
    try:
        await asyncio.sleep(scene.dice.uniform(1, 5))
    finally:
        async with scene.deployment.client() as redis:
            await redis.config_set("maxmemory", 0)


@fault("Redis: disk full", single=True, disks=True)
async def disk_full(scene: Scene) -> None:
    """The disk of Redis is full for some seconds: its log cannot be written, and with `appendfsync always` it ends. It
    is started again when there is room.
    """
    await scene.deployment.fill_disk(scene.deployment.redis, "redis", scene.dice.uniform(1, 4))


@fault("Redis: slow start", single=True)
async def loading(scene: Scene) -> None:
    """A restart that takes some seconds, in which Redis answers LOADING."""
    redis = scene.deployment.redis
    seconds = scene.dice.uniform(2, 5)
    async with scene.deployment.client() as client:
        await client.bgrewriteaof()
        keys = max(1, await client.dbsize())

        async def rewritten() -> bool:
            return not (await client.info("persistence"))["aof_rewrite_in_progress"]

        await until(rewritten, 60)
    redis.kill()
    arguments = list(redis.arguments)
    redis.arguments = [*arguments, "--key-load-delay", str(int(seconds * 1e6 / keys))]
    redis.arguments += ["--loading-process-events-interval-bytes", "1024"]
    try:
        await start(redis)
    finally:
        redis.arguments = arguments
    async with scene.deployment.client() as client:
        await client.config_set("key-load-delay", 0)


@fault("Redis: log rewritten", single=True)
async def rewritten(scene: Scene) -> None:
    """Its append-only file is rewritten, and it is killed at some moment of that."""
    async with scene.deployment.client() as client:
        await client.bgrewriteaof()
    await asyncio.sleep(scene.dice.uniform(0, 0.5))
    scene.deployment.redis.kill()
    await start(scene.deployment.redis)


@fault("Redis: connections killed", single=True)
async def connections_killed(scene: Scene) -> None:
    """CLIENT KILL of all connections, several times."""
    for _ in range(scene.dice.randint(1, 6)):
        async with scene.deployment.client() as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(scene.dice.uniform(0, 0.5))


async def _step(scene: Scene, seconds: int) -> None:
    redis = scene.deployment.redis
    assert isinstance(redis, ClockedRedis)
    redis.set_clock(seconds)
    await asyncio.sleep(scene.dice.uniform(1, 4))
    if scene.dice.random() < 0.5:
        redis.kill()
        await start(redis)
    redis.set_clock(0)


@fault("Redis: clock set back", single=True, kind=CLOCKED)
async def clock_back(scene: Scene) -> None:
    """The clock of its host steps back by up to an hour, and right again; half the times with a kill -9 between."""
    await _step(scene, -scene.dice.randint(5, 3600))


@fault("Redis: clock set ahead", single=True, kind=CLOCKED)
async def clock_ahead(scene: Scene) -> None:
    """The clock of its host steps ahead by up to an hour, and right again; half the times with a kill -9 between."""
    await _step(scene, scene.dice.randint(5, 3600))
