"""A Redis that was started again is not used before somebody has looked what it holds, archive or not."""

from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import World, start


async def test_nothing_is_stored_or_pulled_before_the_look(world: World, traffic: Traffic) -> None:
    traffic.start()
    await traffic.some()
    await traffic.load.stop()
    async with world.client() as redis:
        for _ in range(20):
            # What a start does: the scripts are gone.
            await redis.script_flush()
            if not await traffic.load.once():
                break
        else:
            raise AssertionError("stored without a look")
    traffic.load.start()
    await traffic.rest()
    await traffic.assert_each_once()


async def test_redis_and_service_start_again_while_mariadb_is_away(world: World, traffic: Traffic) -> None:
    """Nothing says that Redis has lost anything, so it is used, and compared when the archive is back."""
    traffic.start()
    await traffic.some()
    world.maria.kill()
    await world.restart(world.redis)
    await traffic.load.until_answered(50)
    await world.restart(world.service)
    await traffic.load.until_answered(50)
    await traffic.load.stop()
    await start(world.maria)
    traffic.load.start()
    await traffic.rest()
    await traffic.assert_each_once()
