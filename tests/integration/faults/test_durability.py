"""Tests what an `im.ack` is worth where Redis does not sync at every write."""

from pathlib import Path
from random import Random

import pytest

from tests.integration.app import until
from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World, start
from tests.servers import RedisServer, valkey_program


@pytest.fixture
async def lazy(open_world: Open, tmp_path: Path) -> World:
    return await open_world(RedisServer(tmp_path / "valkey", valkey_program(), appendfsync="everysec"))


async def more_acknowledged(world: World) -> None:
    """The broker is given an `im.ack` more than it has now."""
    before = len(world.emqx.published)

    async def more() -> bool:
        return len(world.emqx.published) > before

    await until(more)


async def test_acknowledged_messages_outlive_redis_under_everysec(lazy: World, chance: Random) -> None:
    """kill -9, which loses nothing that the kernel has; and a loss of power, which takes up to a second."""
    async with Traffic(lazy, chance, repeats=True) as traffic:
        for _ in range(ROUNDS):
            traffic.start()
            await more_acknowledged(lazy)
            await traffic.some()
            await lazy.restart(lazy.redis)
            await more_acknowledged(lazy)
            copy = await lazy.save_redis()
            await more_acknowledged(lazy)
            await traffic.some(0.0, 1.0)
            await lazy.lose_redis(copy)
            await start(lazy.redis)
            await more_acknowledged(lazy)
            await traffic.rest()
            await traffic.assert_acknowledged_are_there()
