"""Redis loses what it had, or its clock: ids stay above every cursor, clients are told, the archive gives back."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from tests.integration.app import until
from tests.integration.faults.clocked import ClockedRedis
from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World, start
from tests.servers import RedisServer, valkey_program


@pytest.fixture
async def lossy(world: World, chance: Random) -> AsyncIterator[Traffic]:
    """A load on a store that will lose something."""
    async with Traffic(world, chance, repeats=True) as going:
        yield going


async def more_archived(traffic: Traffic) -> None:
    """The archive has something that it has not now."""
    before = len(await traffic.archived())

    async def more() -> bool:
        return len(await traffic.archived()) > before

    await until(more)


async def test_wiped(world: World, lossy: Traffic) -> None:
    for number in range(ROUNDS):
        lossy.start()
        await lossy.some()
        safe = await lossy.archived()
        lost_at = await world.lose_redis(None)
        await start(world.redis)
        await lossy.until_told(number + 2)
        await lossy.rest()
        await lossy.assert_nothing_archived_is_missing(lost_at, safe)


async def test_flushed(world: World, lossy: Traffic) -> None:
    """No connection breaks, the server is the same."""
    for number in range(ROUNDS):
        lossy.start()
        await lossy.some()
        safe = await lossy.archived()
        async with world.client() as redis:
            await redis.flushall()
        await asyncio.sleep(0.1)
        lost_at = time.monotonic()
        await lossy.until_told(number + 2)
        await lossy.rest()
        await lossy.assert_nothing_archived_is_missing(lost_at, safe)


@pytest.mark.parametrize("workers", [1, 2])
async def test_restored_to_an_older_state(open_world: Open, tmp_path: Path, chance: Random, workers: int) -> None:
    """Restores the state of a random time ago, however short."""
    world = await open_world(RedisServer(tmp_path / "valkey", valkey_program()), workers=workers)
    async with Traffic(world, chance, repeats=True) as traffic:
        for number in range(ROUNDS):
            traffic.start()
            await traffic.some()
            copy = await world.save_redis()
            await more_archived(traffic)
            await traffic.some(0.0, 1.5)
            safe = await traffic.archived()
            lost_at = await world.lose_redis(copy)
            await start(world.redis)
            await traffic.until_told(number + 2)
            await traffic.rest()
            await traffic.assert_nothing_archived_is_missing(lost_at, safe)


async def test_restored_while_the_service_is_down(world: World, lossy: Traffic) -> None:
    """Nobody remembers what was given; only the archive knows."""
    for number in range(ROUNDS):
        lossy.start()
        await lossy.some()
        copy = await world.save_redis()
        await more_archived(lossy)
        await lossy.some(0.0, 1.5)
        world.service.kill()
        safe = await lossy.archived()
        lost_at = await world.lose_redis(copy)
        await start(world.redis)
        await start(world.service)
        await lossy.until_told(number + 2)
        await lossy.rest()
        await lossy.assert_nothing_archived_is_missing(lost_at, safe)


@pytest.fixture
async def clocked(open_world: Open, tmp_path: Path) -> World:
    return await open_world(ClockedRedis(tmp_path / "valkey"))


async def test_clock_set_back(clocked: World, chance: Random) -> None:
    """By up to an hour, and right again, with a restart between: nothing is lost, and nobody need be told."""
    redis = clocked.redis
    assert isinstance(redis, ClockedRedis)
    async with Traffic(clocked, chance) as traffic:
        for _ in range(ROUNDS):
            traffic.start()
            await traffic.some()
            redis.set_clock(-chance.randint(10, 3600))
            await traffic.some()
            await clocked.restart(redis)
            await traffic.some()
            redis.set_clock(0)
            await traffic.some()
            await traffic.rest()
            await traffic.assert_each_once()


async def test_wiped_with_the_clock_set_back(clocked: World, chance: Random) -> None:
    redis = clocked.redis
    assert isinstance(redis, ClockedRedis)
    async with Traffic(clocked, chance, repeats=True) as traffic:
        for number in range(ROUNDS):
            traffic.start()
            await traffic.some()
            redis.set_clock(-chance.randint(10, 3600))
            await traffic.some()
            safe = await traffic.archived()
            lost_at = await clocked.lose_redis(None)
            await start(redis)
            await traffic.until_told(number + 2)
            await traffic.rest()
            await traffic.assert_nothing_archived_is_missing(lost_at, safe)
            redis.set_clock(0)
