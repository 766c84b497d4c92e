"""What an `im.ack` is worth where Redis does not sync at every write."""

from pathlib import Path
from random import Random

import pytest

from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World, start
from tests.servers import RedisServer, valkey_program


@pytest.fixture
async def lazy(open_world: Open, tmp_path: Path) -> World:
    return await open_world(RedisServer(tmp_path / "valkey", valkey_program(), appendfsync="everysec"))


async def test_acknowledged_messages_outlive_redis_under_everysec(lazy: World, chance: Random) -> None:
    """kill -9, which loses nothing that the kernel has; and a loss of power, which takes up to a second."""
    async with Traffic(lazy, chance, repeats=True) as traffic:
        for _ in range(ROUNDS):
            traffic.start()
            await traffic.some()
            await lazy.restart(lazy.redis)
            await traffic.some(0.5, 1.5)
            copy = await lazy.save_redis()
            await traffic.some(0.1, 1.0)
            await lazy.lose_redis(copy)
            await start(lazy.redis)
            await traffic.some(0.5, 1.5)
            await traffic.rest()
            assert await traffic.assert_acknowledged_are_there()
